"""What runs did, as one HTML page: ``python -m normfix_mm.report WORK_DIR... --out page.html``.

``run`` reads a work dir, ``plots`` draws curves, ``images`` chooses who draws on validation images
(``boxes`` for a detector, ``label_maps`` for a segmenter, ``labels`` for a classifier), ``classes``
says what there is of each class, ``facts`` how a run was made and what comes next; ``page``
assembles it from ``markup``, ``picture`` makes the README's.
"""

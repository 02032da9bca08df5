"""The papers' claims at the scale of one machine: `make evidence`.

images      CIFAR-10 in small, in memory
network     seven convolutions, or pairs with depthwise ones
training    one run, from its settings to its log; finished runs are kept
claim       which runs a claim needs, the paper's figures, and what ours say
eps_shift   the claims of the ε-shift paper
fixnorm     those of the FixNorm paper
drawings    the papers' figures, from our logs
page        all of it as one HTML page, a Markdown file and PNGs
"""

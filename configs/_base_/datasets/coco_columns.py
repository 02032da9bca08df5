"""The nine columns of the ε-shift paper's Table VII, as CocoMetric calls them.

A detector gives at most 100 boxes an image, so that AR@1000 is the table's AR.
"""

columns = [
    "mAP",
    "mAP_50",
    "mAP_75",
    "mAP_s",
    "mAP_m",
    "mAP_l",
    "AR_s@1000",
    "AR_m@1000",
    "AR_l@1000",
]

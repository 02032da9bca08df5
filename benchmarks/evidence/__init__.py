"""The papers' claims at the scale of one machine: `make evidence`.

images      CIFAR-10 in small, in memory
network     seven convolutions, or pairs with depthwise ones
training    one run, from its settings to its log; finished runs are kept
claims      which runs a claim needs, the paper's figures, and what ours say
drawings    the papers' figures, from our logs
page        all of it as one HTML page and a Markdown file
"""

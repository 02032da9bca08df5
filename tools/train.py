"""``normfix train``: see normfix_mm/commands/train.py."""

from normfix import run

if __name__ == "__main__":
    run("train")

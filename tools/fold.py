"""``normfix fold``: see normfix_mm/commands/fold.py."""

from normfix import run

if __name__ == "__main__":
    run("fold")

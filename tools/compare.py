"""``normfix compare``: see normfix_mm/commands/compare.py."""

from normfix import run

if __name__ == "__main__":
    run("compare")

"""``normfix test``: see normfix_mm/commands/test.py."""

from normfix import run

if __name__ == "__main__":
    run("test")

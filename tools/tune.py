"""``normfix tune``: see normfix_mm/commands/tune.py."""

from normfix import run

if __name__ == "__main__":
    run("tune")

"""``normfix convert``: see normfix_mm/commands/convert.py."""

from normfix import run

if __name__ == "__main__":
    run("convert")

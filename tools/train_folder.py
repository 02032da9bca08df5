"""``normfix train-folder``: see normfix_mm/commands/train_folder.py."""

from normfix import run

if __name__ == "__main__":
    run("train-folder")

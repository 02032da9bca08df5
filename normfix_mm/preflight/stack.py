"""Are the packages there that a run needs?"""

from normfix_mm.errors import BadInput


def check_stack() -> None:
    """Refuse to go on without MMDetection and mmcv's operators.

    Raises:
        BadInput: With what is missing and how to get it.
    """
    try:
        import normfix_mm.detection  # noqa: F401
    except ImportError as error:
        raise BadInput(str(error)) from None

"""What the model card says about the method and the status of its paper."""

import textwrap
from pathlib import Path


PAPER_STATUS = (
    "The method's paper (arXiv 2508.06944) was withdrawn by its authors while an investigation is under way. This "
    "model was trained with an independent implementation; no result of that paper is claimed here."
)

PAPER = {
    "title": "AMFT (arXiv 2508.06944, withdrawn)",
    "id": "2508.06944",
    # docstyle-ignore
    "citation": textwrap.dedent("""\
        @misc{amft2025withdrawn,
            title        = {{AMFT}},
            year         = 2025,
            eprint       = {arXiv:2508.06944},
            note         = {Withdrawn by its authors},
        }"""),
}

# What TRL writes of a model that has no name.
FROM_NOTHING = "a fine-tuned version of [None](https://huggingface.co/None)"


def append_paper_status(output_dir: str) -> None:
    """
    Add the status of the paper to the model card in a folder, once.

    Args:
        output_dir (`str`):
            Folder with the `README.md` that TRL wrote.
    """
    path = Path(output_dir) / "README.md"
    if path.is_file() and PAPER_STATUS not in (card := path.read_text(encoding="utf-8")):
        card = card.replace(FROM_NOTHING, "trained from random weights").replace('model="None"', 'model="this folder"')
        path.write_text(f"{card.rstrip()}\n\n## Status of the paper\n\n{PAPER_STATUS}\n", encoding="utf-8")

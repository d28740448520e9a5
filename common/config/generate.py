"""Write the files that are generated from the schema, or tell whether they are up to date.

``python -m common.config.generate [--check]``, in the repository.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config.example import render_example, render_reference
from common.config.load import load_text
from common.config.registration import render_registration

_ROOT = Path(__file__).resolve().parents[2]


def generated() -> Mapping[str, str]:
    """Return what each generated file must hold, by its path in the repository."""
    filled = render_example(
        {
            ("appservice", "as_token"): "a",
            ("appservice", "hs_token"): "h",
            ("encryption", "pickle_key"): "p",
        }
    )
    config = load_text(filled, "config.example.yaml")
    return {
        "config.example.yaml": render_example(),
        "registration.yaml.example": render_registration(config, with_secrets=False),
        "docs/reference/config.md": render_reference(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; with ``--check`` change nothing and return 1 if one is out of date."""
    parser = argparse.ArgumentParser(prog="python -m common.config.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = bool(parser.parse_args(argv).check)
    stale = [
        name
        for name, text in generated().items()
        if not (_ROOT / name).exists() or (_ROOT / name).read_text("utf-8") != text
    ]
    if check:
        for name in stale:
            sys.stderr.write(f"{name} is out of date: run “make generate”.\n")
        return 1 if stale else 0
    for name in stale:
        (_ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (_ROOT / name).write_text(generated()[name], "utf-8")
        sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

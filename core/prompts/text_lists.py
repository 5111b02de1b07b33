"""Lists of texts: join them, select one, and turn them into segment texts."""

from __future__ import annotations

from collections.abc import Sequence


def unescape(text: str) -> str:
    r"""A delimiter from a one-line field, in which \n and \t mean line break and tab."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def labelled_prompts(
    text: str, delimiter: str, prefix: str, postfix: str, restrict_to: str, exclude: str
) -> tuple[str, str]:
    """A [LAB] text with an entry for each prompt, and the labels.

    Args:
        text: prompts with `delimiter` between them; line breaks within one become spaces.
        prefix, postfix: put before and after every prompt.
        restrict_to: the only tags that are kept, separated by commas; blank keeps all.
        exclude: tags that are left out.

    Returns:
        Segment text, and labels separated by commas, in the order of the prompts.
    """
    prompts = [part.strip() for part in text.split(unescape(delimiter))] if delimiter else [text]
    prompts = [prompt for prompt in prompts if prompt]
    wanted, unwanted = _tags(restrict_to), _tags(exclude)
    lines, labels = ["[LAB]"], []
    for number, prompt in enumerate(prompts, start=1):
        tags = [tag.strip() for tag in prompt.replace("\n", " ").split(",")]
        kept = [
            tag
            for tag in tags
            if tag and (not wanted or tag.lower() in wanted) and tag.lower() not in unwanted
        ]
        labels.append(str(number))
        lines.append(f"[{number}] {prefix}{', '.join(kept)}{postfix}")
    return "\n".join(lines), ",".join(labels)


def _tags(text: str) -> set[str]:
    return {tag.strip().lower() for tag in text.split(",")} - {""}


def select_text(text: str, index: int, blocks: bool) -> str:
    """A line of a text, selected by its index.

    Args:
        index: from 0; after the last line it starts again at the first.
        blocks: select blocks instead of lines. A block begins with a line that starts with #,
            which is removed.
    """
    lines = text.split("\n")
    if not blocks:
        return lines[index % len(lines)]
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("#"):
            found.append([line[1:]])
        else:
            found[-1].append(line)
    texts = [block for block in ("\n".join(part).strip() for part in found) if block]
    return texts[index % len(texts)] if texts else ""


def join_texts(texts: Sequence[str], delimiter: str) -> str:
    """The texts in one, with the delimiter, as `unescape` reads it, between them."""
    return unescape(delimiter).join(texts)

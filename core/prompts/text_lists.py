"""Lists of texts: joined, chosen from, and turned into texts for segments."""

from __future__ import annotations

from collections.abc import Sequence


def unescape(text: str) -> str:
    r"""A delimiter as typed into a one-line field: \n and \t stand for line break and tab."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def labelled_prompts(
    text: str, delimiter: str, prefix: str, postfix: str, restrict_to: str, exclude: str
) -> tuple[str, str]:
    """A [LAB] text with an entry for each prompt, and the labels.

    Args:
        text: prompts with `delimiter` between them; line breaks within one become spaces.
        prefix, postfix: put before and after every prompt.
        restrict_to: tags that alone are kept, separated by commas; blank keeps all.
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
    """A line of a text by its number, counted round.

    Args:
        index: from 0; past the end it begins anew.
        blocks: the choices are not lines but blocks that each begin with a line starting with #,
            which is taken off.
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
    return unescape(delimiter).join(texts)

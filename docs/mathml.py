"""Formulas of the site as MathML, which browsers draw by themselves: no script, and nothing to fetch."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Called by mkdocs for each page, whose formulas arithmatex has marked."""

    def formula(match: re.Match[str]) -> str:
        tag, tex = match.groups()
        return convert(html.unescape(tex), display="block" if tag == "div" else "inline")

    return _FORMULA.sub(formula, content)

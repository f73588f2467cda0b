"""Text from outside, put into Markdown, stays what it was."""

import pytest

from fusion_models.markdown import plain_text


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines\r\nof it", "two lines of it"),
        ("[click](http://evil)", r"[click\](http://evil)"),
        ("[click][1]", r"[click\][1]"),
        ("<img src=x>", r"\<img src=x\>"),
        ("`code` *loud* \\", r"\`code\` \*loud\* \\"),
        ("gain -0.025 [-0.040, -0.010]", "gain -0.025 [-0.040, -0.010]"),
        ("visual_masking_drop", "visual_masking_drop"),
    ],
)
def test_nothing_in_it_is_markdown(given, written):
    assert plain_text(given) == written


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("_shoes_ and __more__", r"\_shoes\_ and \_\_more\_\_"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("a&lt;b &#60; &amp;", r"a\&lt;b \&#60; \&amp;"),
        ("Black & Decker, R&D", "Black & Decker, R&D"),
        ("$x^2$", r"\$x^2\$"),
        ("![p](http://evil)", r"![p\](http://evil)"),
    ],
)
def test_nothing_in_it_is_emphasis_an_entity_or_a_formula(given, written):
    assert plain_text(given) == written

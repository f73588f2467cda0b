"""Whatever encoding a stream has, what is written there never raises and keeps its meaning."""

import io

import pytest

from fusion_models.terminal import forgiving, plain


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "koi8-r"])
def test_a_stream_takes_every_character(encoding):
    text = "≥ 0.05 → 商品 🙂 − … é"
    with pytest.raises(UnicodeEncodeError):
        text.encode(encoding)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert forgiving(stream) is stream
    stream.write(text)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    assert written == plain(text, encoding)
    assert "0.05" in written


def test_what_an_encoding_holds_stays_and_what_it_lacks_is_told():
    assert plain("é ≥ 1 → 2 − 3 商", "latin-1") == "é >= 1 -> 2 - 3 ?"
    assert plain("é ≥ 商 🙂", "utf-8") == "é ≥ 商 🙂"


def test_a_stream_that_cannot_be_changed_is_left_alone():
    stream = io.StringIO()
    assert forgiving(stream) is stream

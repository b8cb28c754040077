from __future__ import annotations

import unicodedata

import pytest

from ouzel_protos import text


def test_composed_and_decomposed_texts_are_one() -> None:
    assert text.nfc("Cafe\u0301") == text.nfc("Caf\u00e9") == "Caf\u00e9"


@pytest.mark.parametrize(
    "label",
    ["cat", "نی\u200cلبک", "ශ්\u200dරී", "👩\u200d🔬", "全角\u3000空白", "a\u00a0b", "x" * 200],
)
def test_labels_of_all_scripts_are_taken(label: str) -> None:
    assert text.is_label(label)


@pytest.mark.parametrize(
    "label", ["", " ", "\u3000", "a\nb", "a\x00", "a\x7f", "\ud800", "a\u2028b", "x" * 201, 1, None]
)
def test_what_is_not_one_line_is_no_label(label: object) -> None:
    assert not text.is_label(label)


def test_halves_of_characters_cannot_be_sent() -> None:
    assert text.is_encodable("👩\u200d🔬")
    assert not text.is_encodable("a\udce9")


def test_what_is_shown_can_be_printed() -> None:
    assert text.shown("Caf\u00e9") == "'Caf\u00e9'"
    text.shown("caf\udce9.png").encode()


def test_what_breaks_a_line_is_what_unicode_calls_so() -> None:
    """Control characters, surrogates, and the separators of lines and paragraphs: of all characters that there are."""
    for number in range(0x110000):
        character = chr(number)
        breaks = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        assert text.is_line(f"a{character}b") != breaks, hex(number)

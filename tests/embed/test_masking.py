"""Words that say a class are left out of texts, and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from embed.features.masking import WORD, class_words, mask, mask_random, masked
from embed.source import held

TEXT = ("Propranolol is a non-selective beta blocker; like other beta blockers it lowers blood pressure in hypertension. "
        "It was made in London in 1964.")


@pytest.mark.parametrize("word", ["propranolol", "Lisinopril", "antihypertensives", "ANTIBIOTIC", "benzodiazepines",
                                  "cefuroxime", "omeprazole", "inhibitors", "insulin", "pravastatin", "rituximab"])
def test_words_that_say_a_class(word):
    assert class_words().say(word)


@pytest.mark.parametrize("word", ["blood", "London", "pressure", "treatment", "water", "the", "made", "april",
                                  "patients", "liver"])
def test_words_that_do_not(word):
    assert not class_words().say(word)


def test_a_masked_text_keeps_the_other_words_in_order():
    assert WORD.findall(mask(TEXT)) == [w for w in WORD.findall(TEXT) if not class_words().say(w)]
    assert "1964" in mask(TEXT)
    assert mask("Propranolol") == "."


def test_the_control_loses_as_many_other_words_and_the_same_each_time():
    said = [w for w in WORD.findall(TEXT) if class_words().say(w)]
    left = WORD.findall(mask_random(TEXT))
    assert len(said) >= 4
    assert len(left) == len(WORD.findall(TEXT)) - len(said)
    assert [w for w in left if class_words().say(w)] == said
    assert mask_random(TEXT) == mask_random(TEXT)


def test_payloads_are_found_under_the_digest_of_what_is_left():
    texts = held([0, 0, 3], [TEXT, "Aspirin", "plain words"])
    hidden = masked(texts)
    assert hidden.row.tolist() == [0, 0, 3]
    assert hidden.load([2, 0]) == ["plain words", mask(TEXT)]
    assert (hidden.sha256[2] == texts.sha256[2]).all()
    assert (hidden.sha256[0] != texts.sha256[0]).any()


def test_the_list_is_sorted_and_says_each_once():
    kept = [*sorted(class_words().words)]
    assert all(a < b for a, b in pairwise(kept))
    assert len(kept) > 400

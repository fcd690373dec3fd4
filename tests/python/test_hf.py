"""transformers under attn_implementation="fastmax": the reference's numbers, padding, gradients, caches, wrong uses."""

from functools import partial

import pytest
import torch
import transformers
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    DynamicCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.masking_utils import sdpa_mask

import fastmax.hf
from fastmax import reference

fastmax.hf.register()
SMALL = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
ENDLESS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=0)


def llama(name="fastmax", cls=LlamaForCausalLM, config=LlamaConfig, **options):
    options = {**SMALL, "num_key_value_heads": 2, **ENDLESS, **options}
    torch.manual_seed(0)
    return cls(config(attn_implementation=name, **options)).eval()


def gpt2(name="fastmax"):
    torch.manual_seed(0)
    options = dict(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, **ENDLESS)
    return GPT2LMHeadModel(GPT2Config(attn_implementation=name, **options)).eval()


def bert(name="fastmax"):
    torch.manual_seed(0)
    return BertModel(BertConfig(attn_implementation=name, **SMALL)).eval()


def whisper(name="fastmax"):
    torch.manual_seed(0)
    config = WhisperConfig(
        attn_implementation=name, vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
        max_source_positions=12, max_target_positions=64, decoder_start_token_id=1, suppress_tokens=None,
        begin_suppress_tokens=None, **ENDLESS,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


def inputs(B=2, N=11):
    return torch.randint(1, 61, (B, N), generator=torch.Generator().manual_seed(3))


def definition(module, query, key, value, mask, *, p, is_causal=None, **_):
    """The float64 definition under transformers' own boolean masks [B, 1, N, M], which fastmax.hf never sees.

    Rows of the unmasked matrix, masked and divided by their sum, are those of masked attention; zeros
    where nothing is seen.
    """
    groups = query.size(1) // key.size(1)
    a = reference.attention_weights(query, key, p=p)
    causal = module.is_causal if is_causal is None else is_causal
    if mask is None and causal:
        mask = torch.ones(a.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        a = a * mask
    total = a.sum(-1, keepdim=True)
    o = torch.where(total == 0, 0, a / torch.where(total == 0, 1, total)) @ value.double().repeat_interleave(groups, 1)
    return o.to(query.dtype).transpose(1, 2).contiguous(), None


for p in range(1, 5):
    AttentionInterface.register(f"definition{p}", partial(definition, p=p))
    AttentionMaskInterface.register(f"definition{p}", sdpa_mask)


ORDERS = [("fastmax", "definition2"), *((f"fastmax{p}", f"definition{p}") for p in (1, 3, 4))]
MODELS = [(make, *order) for order in ORDERS for make in ([llama, gpt2, bert] if order in ORDERS[:2] else [llama])]


@pytest.mark.parametrize("make, name, judge", MODELS)
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_models_give_the_references_numbers_and_gradients(make, name, judge, side):
    ids = inputs()
    mask = torch.ones_like(ids)
    if side != "none":
        mask[0, slice(0, 4) if side == "left" else slice(7, 11)] = 0
    keep = mask[..., None].bool()

    def run(model):
        o = model(ids, attention_mask=mask)[0] * keep
        o.square().sum().backward()
        return o.detach(), [x.grad.clone() for x in model.parameters() if x.grad is not None]

    o, grads = run(make(name))
    wanted, wanted_grads = run(make(judge))
    torch.testing.assert_close(o, wanted, atol=2e-5, rtol=1e-4)
    assert len(grads) == len(wanted_grads) > 10
    for a, b in zip(grads, wanted_grads):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, b.abs().max().item()), rtol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_number(side):
    model, ids = llama(), inputs(1, 7)
    pad = torch.full((1, 4), 5)
    padded = torch.cat([pad, ids] if side == "left" else [ids, pad], 1)
    mask = torch.ones_like(padded)
    real = slice(4, None) if side == "left" else slice(0, 7)
    mask[:, slice(0, 4) if side == "left" else slice(7, None)] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    o = model(padded, attention_mask=mask, position_ids=positions).logits[:, real]
    torch.testing.assert_close(o, model(ids).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name, judge", ORDERS[:2])
def test_cross_attention_gives_the_references_numbers_and_gradients(name, judge):
    features = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(1))

    def run(model):
        o = model(features, decoder_input_ids=inputs()).logits
        o.square().sum().backward()
        of_cross = model.model.decoder.layers[0].encoder_attn
        return o.detach(), [x.grad for x in of_cross.parameters()]

    (o, grads), (wanted, wanted_grads) = run(whisper(name)), run(whisper(judge))
    torch.testing.assert_close(o, wanted, atol=2e-5, rtol=1e-4)
    for a, b in zip(grads, wanted_grads):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, b.abs().max().item()), rtol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=str)
def test_a_padded_encoder_is_a_shorter_one(side, how):
    """Cross attention to padded text, generated with the constant cache: the words of the batch alone."""
    torch.manual_seed(0)
    config = BartConfig(attn_implementation="fastmax", vocab_size=61, d_model=32, encoder_layers=1, decoder_layers=1,
                        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                        max_position_embeddings=64, scale_embedding=True, **ENDLESS)  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    model.model.encoder.embed_positions.weight.data.zero_()  # so that padding on the left moves nothing
    ids = inputs(1, 7)
    pad = torch.full((1, 4), 5)
    padded = torch.cat([pad, ids] if side == "left" else [ids, pad], 1)
    mask = torch.ones_like(padded)
    mask[:, slice(0, 4) if side == "left" else slice(7, None)] = 0
    start = torch.ones(1, 1, dtype=torch.long)
    logits = model(padded, attention_mask=mask, decoder_input_ids=start).logits
    torch.testing.assert_close(logits, model(ids, decoder_input_ids=start).logits, atol=2e-5, rtol=1e-4)
    options = {"decoder_input_ids": start, "max_new_tokens": 8, **how}
    o = model.generate(padded, attention_mask=mask, cache=fastmax.hf.cache(model), **options)
    assert torch.equal(o, model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **options))


def left_padded():
    ids, mask = inputs(3, 9), torch.ones(3, 9, dtype=torch.long)
    ids[0, :4], mask[0, :4], ids[2, :1], mask[2, :1] = 0, 0, 0, 0
    return ids, mask


HOW = {"greedy": {}, "sample": {"do_sample": True, "top_k": 0}, "beam": {"num_beams": 3}}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_constant_cache_generates_what_no_cache_does(make, how):
    model = make()
    ids, mask = left_padded()

    def generate(**options):
        torch.manual_seed(7)
        return model.generate(ids, attention_mask=mask, max_new_tokens=12, **how, **options)

    o = generate(cache=fastmax.hf.cache(model))
    assert torch.equal(o, generate(use_cache=False))
    assert o.shape == (3, 21)


def test_an_encoder_decoder_generates_with_the_constant_cache():
    model, features = whisper(), torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(1))
    for how in HOW.values():
        options, ours = {"max_new_tokens": 12, **how}, []
        for more in ({"cache": fastmax.hf.cache(model)}, {"use_cache": False}):
            torch.manual_seed(7)
            ours.append(model.generate(features, **options, **more))
        assert torch.equal(*ours)


@pytest.mark.slow
@torch.no_grad()
def test_the_cache_has_one_size_and_takes_a_prompt_in_parts():
    model, sizes = llama(num_hidden_layers=1), {}
    ids = inputs(1, 65536)
    whole = fastmax.hf.cache(model)
    for start in range(0, 65536, 1024):
        last = model(ids[:, start : start + 1024], cache=whole, logits_to_keep=1).logits
        sizes[whole.get_seq_length()] = sum(layer.nbytes for layer in whole.layers)
    assert sizes[1024] == sizes[65536] == 2 * 45 * 9 * 4  # Hkv (D + 1)(D + 2) / 2 (E + 1) floats, D = E = 8
    once = model(ids, cache=fastmax.hf.cache(model), logits_to_keep=1).logits
    torch.testing.assert_close(last, once, atol=1e-4, rtol=1e-3)
    longer = torch.cat([ids, last[:, 0].argmax(-1, keepdim=True)], 1)
    o = model.generate(longer, attention_mask=torch.ones_like(longer), cache=whole, max_new_tokens=4)
    assert o.shape == (1, 65541) and whole.get_seq_length() == 65540  # the last token written has not been read
    assert sum(layer.nbytes for layer in whole.layers) == sizes[1024]


def test_the_constant_cache_is_read_without_gradient_where_it_was_filled_with_one():
    model, ids = llama(), inputs()
    cache = fastmax.hf.cache(model)
    loss = model(ids[:, :8], cache=cache).logits.square().sum()
    with torch.no_grad():
        parts = [model(ids[:, n : n + 1], cache=cache).logits for n in range(8, 11)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids).logits[:, 8:], atol=2e-5, rtol=1e-4)
    loss.backward()  # which needs the states as they were
    gradient = model.model.embed_tokens.weight.grad.clone()
    model.zero_grad()
    model(ids[:, :8]).logits.square().sum().backward()
    torch.testing.assert_close(gradient, model.model.embed_tokens.weight.grad)


@pytest.mark.parametrize("name", ["fastmax1", "fastmax3", "fastmax4"])
def test_the_constant_cache_holds_the_state_of_any_order(name):
    model, (ids, mask) = llama(name), left_padded()
    with_cache, without = (
        model.generate(ids, attention_mask=mask, max_new_tokens=6, **options)
        for options in ({"cache": fastmax.hf.cache(model)}, {"use_cache": False})
    )
    assert torch.equal(with_cache, without)


def test_a_fastmax_model_is_saved_loaded_and_generates(tmp_path):
    model = llama("fastmax1", fastmax.hf.FastmaxForCausalLM, fastmax.hf.FastmaxConfig, fastmax_p=1)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(again) is fastmax.hf.FastmaxForCausalLM and again.config._attn_implementation == "fastmax1"
    ids = inputs()
    assert torch.equal(again(ids).logits, model(ids).logits)
    o = again.generate(ids, max_new_tokens=8, return_dict_in_generate=True)
    assert isinstance(o.cache.layers[0], fastmax.hf.FastmaxCacheLayer)
    assert torch.equal(o.sequences, model.generate(ids, max_new_tokens=8, use_cache=False))


def test_auto_classes_load_a_fastmax_model(tmp_path):
    model = llama("fastmax1", fastmax.hf.FastmaxForCausalLM, fastmax.hf.FastmaxConfig, fastmax_p=1)
    model.save_pretrained(tmp_path)
    head, body = AutoModelForCausalLM.from_pretrained(tmp_path), transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert type(body) is fastmax.hf.FastmaxModel and body.config._attn_implementation == "fastmax1"
    assert torch.equal(body(inputs()).last_hidden_state, model.model(inputs()).last_hidden_state)
    for name, good in (("fastmax1", True), ("fastmax", False), ("sdpa", False)):
        if good:
            AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=name)
            head.set_attn_implementation(name)
            continue
        for choose in (partial(AutoModelForCausalLM.from_pretrained, tmp_path, attn_implementation=name),
                       partial(head.set_attn_implementation, name), partial(body.set_attn_implementation, name)):  # fmt: skip
            with pytest.raises(ValueError, match=f"no attn_implementation, or 'fastmax1' as fastmax_p says, got '{name}'"):
                choose()
    head.set_attn_implementation(None)
    assert head.config._attn_implementation == body.config._attn_implementation == "fastmax1"


def test_the_trainer_fits(tmp_path):
    model, ids = llama("fastmax", attention_dropout=0.1), inputs(8, 16)
    rows = [{"input_ids": row, "labels": row} for row in ids]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=12, learning_rate=1e-2, per_device_train_batch_size=8, report_to=[], use_cpu=True,
        save_strategy="no", logging_steps=1, disable_tqdm=True, gradient_checkpointing=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_compile_without_graph_break_given_an_attention_mask():
    model, ids = llama(), inputs()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    o = compiled(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    torch.testing.assert_close(o, model(ids).logits)
    with pytest.raises(ValueError, match="attention_mask under torch.compile"):
        torch.compile(model, backend="eager")(ids, use_cache=False)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_models_of_any_type(dtype):
    (ids, mask), cache = left_padded(), fastmax.hf.cache(llama())
    model, wanted = llama().to(dtype), llama()(ids, attention_mask=mask).logits
    whole = model(ids, attention_mask=mask).logits
    parts = [model(ids[:, n:end], attention_mask=mask[:, :end], cache=cache).logits for n, end in ((0, 8), (8, 9))]
    for o in (whole, torch.cat(parts, 1)):
        assert o.dtype == dtype
        torch.testing.assert_close(o.float()[mask > 0], wanted[mask > 0], rtol=0, atol=1e-2 if dtype == torch.float16 else 2e-5)
    exact = bert()(ids, attention_mask=mask)[0]
    torch.testing.assert_close(bert().to(dtype)(ids, attention_mask=mask)[0].float(), exact, rtol=0, atol=2e-2)


def test_bf16_and_the_attention_matrix():
    model, ids = bert(), inputs()
    a = model(ids, output_attentions=True).attentions
    assert len(a) == 2 and a[0].shape == (2, 4, 11, 11)
    torch.testing.assert_close(a[0].sum(-1), torch.ones(2, 4, 11))
    o, exact = model.bfloat16()(ids)[0], bert()(ids)[0]
    assert o.dtype == torch.bfloat16 and (o - exact).square().mean().sqrt() < 0.05


def assisted():
    model, draft = llama(), llama(num_hidden_layers=1)
    model.generate(inputs(1), assistant_model=draft, cache=fastmax.hf.cache(model), max_new_tokens=8)


OFFSETS = torch.tensor([0, 6, 11], dtype=torch.int32)
WRONG = {
    "cache of another attention": (lambda: fastmax.hf.cache(llama("sdpa")), "a model of attn_implementation 'fastmax'"),
    "sliding window": (
        lambda: llama(cls=MistralForCausalLM, config=MistralConfig, sliding_window=4)(inputs()),
        "a causal or an unmasked layer",
    ),
    "position bias": (
        lambda: T5Model(T5Config(vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4,
                                 attn_implementation="fastmax"))(inputs(), decoder_input_ids=inputs()),
        "a model without position_bias",
    ),
    "4-D mask": (lambda: llama()(inputs(), attention_mask=torch.ones(2, 1, 11, 11)), "attention_mask of 2 dimensions"),
    "packed sequences": (
        lambda: llama()(inputs(), position_ids=torch.tensor([[*range(6), *range(5)]] * 2), use_cache=False),
        "a causal or an unmasked layer",
    ),
    "packed sequences by their offsets": (
        lambda: llama()(inputs(1), cu_seq_lens_q=OFFSETS, cu_seq_lens_k=OFFSETS, max_length_q=6, max_length_k=6),
        "one sequence a row under attn_implementation='fastmax', got cu_seq_lens_q",
    ),
    "packed sequences by their numbers": (
        lambda: llama()(inputs(1), seq_idx=torch.tensor([[0] * 6 + [1] * 5])),
        "one sequence a row under attn_implementation='fastmax', got seq_idx",
    ),
    "static cache": (lambda: llama().generate(inputs(), cache_implementation="static", max_new_tokens=4), "tokens so far"),
    "static cache of its own model": (
        lambda: llama(None, fastmax.hf.FastmaxForCausalLM, fastmax.hf.FastmaxConfig).generate(
            inputs(), cache_implementation="static", max_new_tokens=4
        ),
        "generation without cache_implementation (this model's cache has a constant size), got 'static'",
    ),
    "soft cap": (lambda: llama(cls=Gemma2ForCausalLM, config=Gemma2Config, head_dim=8)(inputs()), "a sliding window"),
    "head mask": (lambda: bert()(inputs(), head_mask=torch.ones(4)), "a model without head_mask"),
    "normalize of no such name": (
        lambda: llama(fastmax={"normalize": "softmax"})(inputs()),
        "normalize 'standardize', 'l2', 'none' or 'max_norm', got 'softmax'",
    ),
    "normalize of all tokens at once": (lambda: llama(fastmax={"normalize": "max_norm"})(inputs()), "normalize other than 'max_norm' when causal"),
    "dropout of no such name": (
        lambda: llama(fastmax={"dropout": "cubic"})(inputs()),
        "dropout 'quadratic', 'standard' or 'token', got 'cubic'",
    ),
    "scale below zero": (lambda: llama(fastmax={"scale": -1.0})(inputs()), "scale > 0 and finite, got -1"),
    "option": (lambda: llama(fastmax={"order": 2})(inputs()), "config.fastmax of scale, normalize and dropout, got order"),
    "order": (lambda: llama(None, fastmax.hf.FastmaxForCausalLM, fastmax.hf.FastmaxConfig, fastmax_p=5), "in 1..4, got 5"),
    "assisted decoding": (assisted, "Assisted decoding requires a cache that can be cropped"),
    "cache that softmax reads": (
        lambda: [llama("sdpa")(inputs(), cache=c) for c in [fastmax.hf.cache(llama())] * 2],
        "attention that did not read the cache",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_uses_are_one_clear_error(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["position_bias", "sliding_window", "softcap", "s_aux", "sinks", "head_mask", "indices", "block_indices"])
def test_what_acts_on_single_scores_is_refused(name):
    q = torch.zeros(1, 4, 3, 8)
    with pytest.raises(ValueError, match=f"need a model without {name} under attn_implementation='fastmax', got one that has it"):
        AttentionInterface()["fastmax"](llama().model.layers[0].self_attn, q, q, q, None, **{name: torch.ones(4)})


@pytest.mark.parametrize(
    "value, words",
    [
        ("l2", "need config.fastmax a dict, got str"),
        ({"scale": "1"}, "need scale a number or None, got str"),
        ({"normalize": 2}, "need normalize a str, got int"),
        ({"dropout": 0.1}, "need dropout a str, got float"),
    ],
    ids=str,
)
def test_options_of_a_wrong_type(value, words):
    for call in (lambda m: m(inputs()), lambda m: m.generate(inputs(), cache=fastmax.hf.cache(m), max_new_tokens=3)):
        with pytest.raises(TypeError, match=words):
            call(llama(fastmax=value))


def test_options_of_the_config_are_those_of_the_function():
    """Between one layer's q, k, v and its output there is nothing but the function."""
    options = {"scale": 0.3, "normalize": "l2"}
    q, k, v = (torch.randn(2, 4, 11, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    layer = llama(fastmax=options).model.layers[0].self_attn
    for p in range(1, 5):
        o, _ = AttentionInterface()[f"fastmax{p}"](layer, q, k, v, None)
        wanted = reference.attention(q, k, v, is_causal=True, p=p, **options)
        torch.testing.assert_close(o.transpose(1, 2).double(), wanted, atol=2e-5, rtol=1e-4)


def test_register_keeps_the_other_implementations():
    assert "sdpa" in AttentionInterface() and "fastmax3" in AttentionInterface()
    model = llama("sdpa")
    model(inputs(), cache=DynamicCache())

"""Restoration attention against the formula and what suspicion takes out."""

from __future__ import annotations

import math

import pytest
import torch

from ura_hf.model.restoration import FeatureRestoration, RestorationBlock, to_grid, to_tokens

C, G, K, D, N = 6, 8, 2, 16, 5  # channels, grid, patch, width, memory


def restoration(memory_size: int = N, dropout: float = 0.5, **switches: bool) -> FeatureRestoration:
    torch.manual_seed(0)
    model = FeatureRestoration(C, G, K, D, 2, 4, 2.0, dropout, memory_size, **switches)
    model.memory.normal_()
    for parameter in (model.position, model.mask_token):
        torch.nn.init.normal_(parameter)
    return model.eval().requires_grad_(False)


# Tokens


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_tokens_and_grid_are_inverse(patch):
    features = torch.randn(2, 3, 8, 8)
    tokens = to_tokens(features, patch)
    assert tokens.shape == (2, (8 // patch) ** 2, 3 * patch**2)
    assert torch.equal(to_grid(tokens, patch), features)
    assert torch.equal(to_tokens(to_grid(tokens, patch), patch), tokens)


def test_a_token_holds_its_own_cells():
    """Token 6 of a 4x4 token grid is row 1, column 2: cells (2..3, 4..5), whatever their order inside."""
    features = torch.arange(3 * 64.0).view(1, 3, 8, 8)
    token = to_tokens(features, 2)[0, 6]
    assert sorted(token.tolist()) == sorted(features[0, :, 2:4, 4:6].flatten().tolist())


# The block


def attention_by_hand(block: RestorationBlock, x, memory, normality) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d) + log(1 - m)) V, head by head and query by query, then the feed-forward layer."""
    width = x.shape[-1]
    size = width // block.heads
    rows = []
    for image, weights in zip(x, normality, strict=True):
        normed, known = block.norm(image), block.norm(memory[0])
        content = torch.cat([normed, known])
        query = block.query(normed)
        key, value = block.key_value(content).split(width, -1)
        heads = []
        for head in range(block.heads):
            part = slice(head * size, (head + 1) * size)
            logits = query[:, part] @ key[:, part].T / math.sqrt(size)
            share = logits.exp() * weights  # softmax(a + log w) is w e^a over its sum
            heads.append(share / share.sum(-1, keepdim=True) @ value[:, part])
        mixed = image + block.out(torch.cat(heads, -1))
        rows.append(mixed + block.mlp(block.mlp_norm(mixed)))
    return torch.stack(rows)


@pytest.mark.parametrize("memory_size", [0, 5])
def test_block_by_hand(memory_size):
    torch.manual_seed(0)
    block = RestorationBlock(D, 4, 2.0).requires_grad_(False)
    x, memory = torch.randn(3, 9, D), torch.randn(1, memory_size, D)
    normality = torch.cat([torch.rand(3, 9), torch.ones(3, memory_size)], 1)
    out = block(x, memory, normality.log())
    assert out.shape == x.shape
    torch.testing.assert_close(out, attention_by_hand(block, x, memory, normality), atol=1e-5, rtol=1e-4)


def test_keys_of_no_normality_explain_nothing():
    """With weight 0 on token 4, the other tokens come out as if it were not there."""
    torch.manual_seed(0)
    block = RestorationBlock(D, 4, 2.0).requires_grad_(False)
    x, memory = torch.randn(1, 9, D), torch.randn(1, 3, D)
    bias = torch.zeros(1, 12)
    bias[0, 4] = -math.inf
    rest = [i for i in range(9) if i != 4]
    without = block(x[:, rest], memory, torch.zeros(1, 11))
    torch.testing.assert_close(block(x, memory, bias)[:, rest], without, atol=1e-5, rtol=1e-4)


# The whole restoration


def test_key_weights_are_the_normality_of_tokens_and_one_for_the_memory():
    model, seen = restoration(), []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    suspicion = torch.rand(2, 1, G, G, generator=torch.Generator().manual_seed(0))
    suspicion[0, 0, 0, 0] = 1.0
    model(torch.randn(2, C, G, G), suspicion)
    m = suspicion.view(2, G // K, K, G // K, K).amax((2, 4)).flatten(1)  # a token's most suspicious cell
    assert len(seen) == 2
    for bias in seen:
        assert bias.shape == (2, (G // K) ** 2 + N)
        torch.testing.assert_close(bias[:, :-N].exp(), 1 - m, atol=1e-3, rtol=0)
        assert bias.isfinite().all() and bias[0, 0] < math.log(1e-3)
        assert (bias[:, -N:] == 0).all()


def test_restoration_by_hand():
    """Embedding, masked query t' = (1-m) t + m t_mask + position, the blocks by the formula, decoder."""
    model = restoration()
    generator = torch.Generator().manual_seed(1)
    features, suspicion = (torch.randn(2, C, G, G, generator=generator), torch.rand(2, 1, G, G, generator=generator))
    m = suspicion.view(2, G // K, K, G // K, K).amax((2, 4)).flatten(1)
    x = (1 - m)[..., None] * model.embed(to_tokens(features, K)) + m[..., None] * model.mask_token + model.position
    normality = torch.cat([1 - m + 1e-4, torch.ones(2, N)], 1)
    for block in model.blocks:
        x = attention_by_hand(block, x, model.embed(model.memory)[None], normality)
    expected = to_grid(model.decode(model.norm(x)), K)
    torch.testing.assert_close(model(features, suspicion), expected, atol=1e-4, rtol=1e-3)


def test_shape_and_finiteness_at_the_ends_of_suspicion():
    model, features = restoration(), torch.randn(3, C, G, G)
    for value in (0.0, 1.0):
        out = model(features, torch.full((3, 1, G, G), value))
        assert out.shape == features.shape and out.isfinite().all()


def test_suspicious_content_reaches_no_output():
    """One fully suspicious cell: whatever its token holds, the restored features are the same everywhere."""
    model, features = restoration(), torch.randn(1, C, G, G)
    suspicion = torch.zeros(1, 1, G, G)
    suspicion[0, 0, 2, 5] = 1.0
    changed = features.clone()
    changed[:, :, 2:4, 4:6] += 10  # the cells of its token
    assert torch.equal(model(features, suspicion), model(changed, suspicion))
    changed[:, :, 4, 5] += 10  # a cell of its neighbour
    assert not torch.equal(model(features, suspicion), model(changed, suspicion))


def test_all_suspicious_leaves_the_memory_alone_to_restore():
    model = restoration()
    suspicion = torch.ones(1, 1, G, G)
    first = model(torch.randn(1, C, G, G), suspicion)
    assert torch.equal(first, model(torch.randn(1, C, G, G), suspicion))
    model.memory.normal_()
    assert (first - model(torch.randn(1, C, G, G), suspicion)).abs().max() > 1e-3


def test_normal_tokens_explain_suspicious_ones_from_afar():
    model, features = restoration(), torch.randn(1, C, G, G)
    suspicion = torch.zeros(1, 1, G, G)
    suspicion[..., :2, :2] = 1.0
    changed = features.clone()
    changed[..., 6:, 6:] += 3
    moved = (model(features, suspicion) - model(changed, suspicion)).abs()
    assert moved[..., :2, :2].max() > 1e-4


def test_tokens_know_their_place():
    """Turning the image does not merely turn the restoration: positions are part of the query."""
    model, features = restoration(), torch.randn(1, C, G, G)
    suspicion = torch.ones(1, 1, G, G)
    out = model(features, suspicion)
    assert (out[..., :2, :2] - out[..., 6:, 6:]).abs().max() > 1e-3


def test_switched_off_keys_count_alike():
    """Without key weighting the bias is zero, and a suspicious token's content reaches the others."""
    model, seen = restoration(weigh_keys=False), []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    features, suspicion = torch.randn(1, C, G, G), torch.zeros(1, 1, G, G)
    suspicion[0, 0, 0, 0] = 1.0
    changed = features.clone()
    changed[..., 4:, 4:] += 10
    model(features, suspicion)
    assert len(seen) == 2 and all((bias == 0).all() for bias in seen)
    assert (model(features, suspicion) - model(changed, suspicion))[..., :2, :2].abs().max() > 1e-4


def test_switched_off_queries_keep_what_is_suspicious():
    """Without query take-out a suspicious token's own content reaches its own output, and no mask token does."""
    model, features = restoration(take_out_queries=False), torch.randn(1, C, G, G)
    suspicion = torch.zeros(1, 1, G, G)
    suspicion[..., 2, 5] = 1.0
    changed = features.clone()
    changed[..., 2:4, 4:6] += 10
    before = model(features, suspicion)
    moved = (before - model(changed, suspicion)).abs()
    assert moved[..., 2:4, 4:6].max() > 1e-2
    model.mask_token.normal_()
    assert torch.equal(model(features, suspicion), before)


def test_with_both_off_suspicion_does_nothing():
    model, features = restoration(0, weigh_keys=False, take_out_queries=False), torch.randn(1, C, G, G)
    first, second = (model(features, torch.full((1, 1, G, G), m)) for m in (0.0, 1.0))
    assert torch.equal(first, second)


def test_works_without_memory():
    model = restoration(memory_size=0)
    out = model(torch.randn(2, C, G, G), torch.rand(2, 1, G, G))
    assert out.shape == (2, C, G, G) and out.isfinite().all()


def test_result_does_not_depend_on_the_batch():
    model, features, suspicion = restoration(), torch.randn(4, C, G, G), torch.rand(4, 1, G, G)
    together = model(features, suspicion)
    for index in range(4):
        alone = model(features[index : index + 1], suspicion[index : index + 1])
        torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=1e-4)


def test_dropout_only_in_training():
    model, features, suspicion = restoration(), torch.randn(1, C, G, G), torch.zeros(1, 1, G, G)
    assert torch.equal(model(features, suspicion), model(features, suspicion))
    model.train()
    assert not torch.equal(model(features, suspicion), model(features, suspicion))


@pytest.mark.parametrize("attends", [True, False])
def test_learns_to_restore_by_attention(attends):
    """A hidden corner is one of two patterns, as the rest of the image tells: only attention can bring it there."""
    torch.manual_seed(0)
    model = FeatureRestoration(C, G, K, D, 1, 2, 2.0, 0.0, 0)
    if not attends:
        for parameter in model.blocks[0].out.parameters():
            parameter.data.zero_()
            parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    base = torch.randn(1, C, G, G)
    suspicion = torch.zeros(16, 1, G, G)
    suspicion[..., 4:, 4:] = 1

    def error() -> torch.Tensor:
        features = base * torch.randint(0, 2, (16, 1, 1, 1)).mul(2).sub(1) + 0.1 * torch.randn(16, C, G, G)
        altered = torch.where(suspicion > 0, torch.randn_like(features) * 3, features)
        return (model(altered, suspicion) - features)[..., 4:, 4:].square().mean()

    for _ in range(300):
        optimizer.zero_grad()
        loss = error()
        loss.backward()
        optimizer.step()
    unknown = base[..., 4:, 4:].square().mean().item()  # the error of their mean
    assert (error().item() < 0.1 * unknown) == attends and error().item() < 1.3 * unknown

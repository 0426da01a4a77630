"""The losses of the papers in NumPy, view by view, in float64.

Each takes views z (2, N, D), not normalized, and returns the losses (2N,).
With `coefficients=True` also dL_i / ds_ik, (2N, 2N), where the paper states
them; `gradient` makes of these the gradient with respect to z.
"""

import numpy as np


def unit(z):
    z = z.reshape(-1, z.shape[-1])
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def roles(z):
    """(i, partner, negatives) of each view."""
    count = 2 * z.shape[1]
    for i in range(count):
        partner = (i + count // 2) % count
        yield i, partner, [k for k in range(count) if k not in (i, partner)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def semi_hard_of(s_i, partner, negatives):
    """The closest negative farther than the partner, or the farthest."""
    farther = [k for k in negatives if s_i[k] < s_i[partner]]
    if farther:
        return [max(farther, key=lambda k: s_i[k])]
    return [min(negatives, key=lambda k: s_i[k])]


def nt_logistic(z, temperature, semi_hard=False, coefficients=False):
    u = unit(z)
    s = u @ u.T
    losses, c = np.zeros(len(u)), np.zeros((len(u), len(u)))
    for i, partner, negatives in roles(z):
        if semi_hard:
            negatives = semi_hard_of(s[i], partner, negatives)
        # Table 2, to be maximised: log sigma(u v+ / t) + log sigma(-u v- / t).
        gain = np.log(sigmoid(s[i, partner] / temperature))
        gain += np.mean(
            [np.log(sigmoid(-s[i, k] / temperature)) for k in negatives]
        )
        losses[i] = -gain
        # Table 2: sigma(-u v+ / t) / t v+ - sigma(u v- / t) / t v-.
        c[i, partner] = -sigmoid(-s[i, partner] / temperature) / temperature
        for k in negatives:
            share = sigmoid(s[i, k] / temperature) / temperature
            c[i, k] += share / len(negatives)
    return (losses, c) if coefficients else losses


def margin_triplet(z, margin, semi_hard=False, coefficients=False):
    u = unit(z)
    s = u @ u.T
    losses, c = np.zeros(len(u)), np.zeros((len(u), len(u)))
    for i, partner, negatives in roles(z):
        if semi_hard:
            negatives = semi_hard_of(s[i], partner, negatives)
        for k in negatives:
            excess = s[i, k] - s[i, partner] + margin
            losses[i] += max(excess, 0) / len(negatives)
            if excess > 0:  # Table 2: v+ - v-, or 0.
                c[i, partner] -= 1 / len(negatives)
                c[i, k] += 1 / len(negatives)
    return (losses, c) if coefficients else losses


def gradient(z, c):
    """dL/dz (2, N, D) of the sum of the losses, given dL_i / ds_ik."""
    lengths = np.linalg.norm(z, axis=-1, keepdims=True)
    u = unit(z)
    du = (c @ u + c.T @ u).reshape(z.shape)
    u = u.reshape(z.shape)
    return (du - (du * u).sum(axis=-1, keepdims=True) * u) / lengths


def nt_xent(
    z, temperature, decoupled=False, sigma=None, normalize=True, at=None
):
    """NT-Xent, decoupled (2110.06848, Equations 6 and 7), not normalized.

    The weights of Equation 7 are those at the views `at`.
    """
    u = unit(z) if normalize else z.reshape(-1, z.shape[-1])
    s = u @ u.T
    u_at = u if at is None else unit(at)
    pulls = [np.exp(u_at[i] @ u_at[j] / (sigma or 1.0)) for i, j, _ in roles(z)]
    losses = np.zeros(len(u))
    for i, partner, negatives in roles(z):
        others = negatives if decoupled else [*negatives, partner]
        terms = np.array([s[i, k] for k in others]) / temperature
        log_sum = terms.max() + np.log(np.exp(terms - terms.max()).sum())
        weight = 1.0 if sigma is None else 2 - pulls[i] / np.mean(pulls)
        losses[i] = log_sum - weight * s[i, partner] / temperature
    return losses


def sup_con(z, temperature, labels):
    """2004.11362, Equation 2."""
    u = unit(z)
    s = u @ u.T / temperature
    labels = np.tile(labels, 2)
    losses = np.zeros(len(u))
    for i in range(len(u)):
        others = [k for k in range(len(u)) if k != i]
        log_sum = np.log(np.sum(np.exp(s[i, others])))
        positives = [k for k in others if labels[k] == labels[i]]
        losses[i] = -np.mean([s[i, p] - log_sum for p in positives])
    return losses


def hard_negatives(z, temperature, concentration, prior):
    """2010.04592, Section 3, with the exponentials written out."""
    u = unit(z)
    s = u @ u.T
    losses = np.zeros(len(u))
    for i, partner, negatives in roles(z):
        count = len(negatives)
        positive = np.exp(s[i, partner] / temperature)
        terms = np.exp(s[i, negatives] / temperature)
        weights = np.exp(concentration * s[i, negatives] / temperature)
        weights = weights / weights.mean()
        total = (weights * terms).sum() - count * prior * positive
        total = max(total / (1 - prior), count * np.exp(-1 / temperature))
        losses[i] = -np.log(positive / (positive + total))
    return losses

"""The learned weight with the constants that its paper prints."""

from .amft import AMFTPolicy


# Fields of the configuration that the paper fixes, with its values.
PAPER_SETTINGS = {
    "mu_init": 0.5,
    "mu_min": 0.05,
    "mu_max": 0.95,
    "mu_lr": 1e-4,
    "mu_entropy_lr": 5e-4,
    "meta_gradient": "validation",
    "meta_interval": 20,
    "meta_normalization": "none",
    "meta_preconditioner": "sgd",
    "meta_window": 1,
}


class AMFTPaperPolicy(AMFTPolicy):
    """
    μ ← clip(μ + η_μ · dU/dμ + η_H · (H* − H), .05, .95) as printed: dθ'/dμ = −α (g_SFT − g_RL) without Adam and
    clipping, the raw product, one step, held-out rollouts every 20 steps, η_μ = 1e-4, η_H = 5e-4, μ_0 = .5.

    It shows what the printed constants do: with learning rates of 1e-6 the first term moves μ by less than 1e-8 in a
    whole run, and the entropy term decides. `PAPER_SETTINGS` takes the place of the defaults of the configuration;
    any other value but the default that is given for one of these fields is refused.

    Source: arXiv 2508.06944 (withdrawn). Deviation: U is the reward, and μ climbs it; the public stub adds the
    gradient of a validation loss.
    """

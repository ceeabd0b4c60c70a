"""QAN's agent alone, on CartPole-v1, beside the DQN of stable-baselines3.

    python benchmarks/cartpole.py --no-sb3               # 5 seeds, about 2 minutes in all
    python benchmarks/cartpole.py                        # both; pip install stable-baselines3 (optional)
    python benchmarks/cartpole.py --agents sb3           # in an environment without TensorFlow, too
    python benchmarks/cartpole.py --agents sb3 --steps 50000  # what its settings are tuned for

100 000 environment steps a seed at most (`--steps`), then the mean return of the greedy policy over 100
episodes on seeds that training has not seen. Solved is a mean of 475 or more; the most is 500, where an
episode is truncated (not terminated: its end is worth what the network says). What is measured is what
training ends with: no agent's snapshots are chosen from.

`ours` is `DQN` on `q_network` with the settings in `OURS`; what plays in the end is the target network,
the running average, as in QAN's snapshots. `sb3` has the settings that RL Baselines3 Zoo has tuned for
this task (for 50 000 steps; its share of exploration is taken of all steps here). Seconds are of
training and evaluation, on one core.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # small networks are faster without

import gymnasium
import numpy as np

EPISODES, SOLVED = 100, 475
FRESH = 1_000_000  # seeds of the evaluation begin here

OURS = {
    "units": (128, 128),
    "scale": 20.0,  # of Q-values, which are up to 1 / (1 − γ)
    "learning_rate": 1e-3,  # falls to 0, linearly, so that training ends at rest
    "epsilon": (1.0, 0.05),  # falls linearly
    "explore": 0.1,  # in this share of the steps
    "environments": 8,  # played side by side: one decision for all
    "every": 256,  # steps between two calls of `learn`
    "gradient_steps": 128,  # of each call
    "agent": {"batch_size": 128},  # else its defaults: n = 5, γ = 0.99, τ = 0.005, double
}
ZOO = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}


def ours(seed, steps, settings=OURS):
    """Trains `DQN`; returns its greedy policy and the steps taken."""
    import keras

    from keras_drmad.tuners.qan.agent.dqn import DQN
    from keras_drmad.tuners.qan.agent.q_network import q_network

    keras.utils.set_random_seed(seed)
    calls = steps // settings["every"]
    rate = keras.optimizers.schedules.PolynomialDecay(
        settings["learning_rate"], calls * settings["gradient_steps"], 0.0
    )
    agent = DQN(
        q_network([((4,), None)], 2, settings["units"], scale=settings["scale"], seed=seed),
        keras.optimizers.Adam(rate, global_clipnorm=10.0),
        seed=seed,
        **settings["agent"],
    )
    rng = np.random.default_rng(seed)
    players = [Player(seed * 1000 + i) for i in range(settings["environments"])]
    taken, learned = 0, 0
    while taken + len(players) <= steps:
        high, low = settings["epsilon"]
        epsilon = max(low, high - (high - low) * taken / (settings["explore"] * steps))
        actions = agent.act(np.stack([p.observations[-1] for p in players]), epsilon, rng)
        for player, action in zip(players, actions, strict=True):
            trajectory = player.step(int(action))
            if trajectory is not None:
                agent.replay.add(*trajectory)
        taken += len(players)
        if taken // settings["every"] > learned:
            learned += 1
            agent.learn(settings["gradient_steps"])
    agent.network.set_weights(agent.target.get_weights())
    return agent.act, taken


class Player:
    """An environment and the trajectory so far."""

    def __init__(self, seed):
        self.env = gymnasium.make("CartPole-v1")
        self.begin(seed)

    def begin(self, seed=None):
        self.observations = [self.env.reset(seed=seed)[0]]
        self.actions, self.rewards = [], []

    def step(self, action):
        """What `ReplayBuffer.add` takes, at the end of an episode; else None."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self.observations.append(observation)
        self.actions.append(action)
        self.rewards.append(reward)
        if not (terminated or truncated):
            return None
        whole = np.stack(self.observations), self.actions, np.array(self.rewards), terminated
        self.begin()
        return whole


def sb3(seed, steps):
    """Trains stable-baselines3's DQN; returns its greedy policy and the steps taken."""
    import stable_baselines3
    import torch

    torch.set_num_threads(1)
    env = gymnasium.make("CartPole-v1")
    agent = stable_baselines3.DQN("MlpPolicy", env, seed=seed, device="cpu", **ZOO)
    agent.learn(steps // ZOO["train_freq"] * ZOO["train_freq"])  # it goes on to the end of a call

    def play(observations):
        return agent.predict(observations, deterministic=True)[0]

    return play, agent.num_timesteps


def evaluate(play, seed):
    """(EPISODES,) returns of greedy episodes on fresh seeds, all played side by side."""
    envs = [gymnasium.make("CartPole-v1") for _ in range(EPISODES)]
    first = FRESH + seed * EPISODES
    observations = np.stack([env.reset(seed=first + i)[0] for i, env in enumerate(envs)])
    returns, going = np.zeros(EPISODES), np.ones(EPISODES, bool)
    while going.any():
        actions = play(observations)
        for i in np.flatnonzero(going):
            observations[i], reward, terminated, truncated, _ = envs[i].step(int(actions[i]))
            returns[i] += reward
            going[i] = not (terminated or truncated)
    return returns


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", nargs="+", choices=("ours", "sb3"), default=("ours", "sb3"))
    parser.add_argument("--no-sb3", action="store_true", help="the agent alone")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    agents = [name for name in options.agents if not (options.no_sb3 and name == "sb3")]
    if "ours" in agents:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    print("seed  agent  mean return  env steps  seconds", flush=True)
    means = {name: [] for name in agents}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in agents:
            begun = time.perf_counter()
            play, taken = {"ours": ours, "sb3": sb3}[name](seed, options.steps)
            mean = evaluate(play, seed).mean()
            seconds = time.perf_counter() - begun
            means[name].append(mean)
            print(f"{seed:4}  {name:5}  {mean:11.1f}  {taken:9}  {seconds:7.0f}", flush=True)
    for name, values in means.items():
        solved = sum(value >= SOLVED for value in values)
        print(f"{name}: {np.mean(values):.1f} on average, {solved} of {len(values)} solved")


if __name__ == "__main__":
    main()

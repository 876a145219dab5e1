"""Noughts and crosses, learned from games against itself (after Tesauro's backgammon, 1992, and AlphaGo, 2016).

A network v estimates what a position is worth to the player who has just made it: 1 a win, 0 a draw, -1 a loss. A move
is chosen by trying all and taking the one with the greatest v, or now and then at random, so that other lines are seen
too. After 256 games each of their positions is labelled by how its game ended, and v is moved towards that in the mean
square; the better v, the better the games that it learns from. (AlphaGo also has a network that proposes moves, and a
search that looks ahead.)

Data: none but the games. Judged against perfect play, which never loses: by minimax a position is worth the best that a
move can reach when the other player does likewise. Baseline: a random player against the same.
"""
from functools import cache

import numpy as np

from kdl import nn, optim
from kdl.models import MLP
from kdl.nn import functional as F
from kdl.utils import plots

METRIC = "games lost to perfect play"
GATES = [("games lost to perfect play", "<=", 0.3), ("games lost to a random player", "<=", 0.04),
         ("games won against a random player", ">=", 0.91)]
EPOCHS = 250  # rounds of games
LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


def won(boards):
    """Whether player 1 has three in a row on boards (..., 9) of 1, of -1 for the other's stones, and of 0."""
    return (boards[..., LINES].sum(-1) == 3).any(-1)


def after_moves(boards):
    """The boards (N, 9, 9) after a stone of player 1 on each of the fields, taken ones included."""
    return np.where(np.eye(9, dtype=bool), 1, boards[:, None])


@cache
def perfect_values(board):
    """What each move is worth to player 1 when both play on perfectly; minus infinity on a taken field."""
    after = after_moves(np.array([board]))[0]
    return np.array([-np.inf if taken else 1 if won(a) else 0 if a.all() else -perfect_values(tuple(-a)).max()
                     for taken, a in zip(board, after, strict=True)])


def play(first, second, games):
    """Games of two players, functions from boards (N, 9) as player 1 sees them to moves (N,): every position as its
    maker sees it, what its game brought the maker, and the results for the first player."""
    boards, results, live, log, side = np.zeros((games, 9), int), np.zeros(games), np.arange(games), [], 1
    while len(live):
        mine = boards[live]
        mine[np.arange(len(live)), (first if side == 1 else second)(mine)] = 1
        boards[live] = -mine
        log.append((mine, live, side))
        results[live[won(mine)]] = side
        live, side = live[~won(mine) & (mine == 0).any(1)], -side
    return (np.concatenate([mine for mine, _, _ in log]),
            np.concatenate([side * results[played] for _, played, side in log]), results)


def against(player, rival, games=600):
    """The shares of games lost and won, each player beginning in half of them."""
    results = np.concatenate([play(player, rival, games // 2)[2], -play(rival, player, games // 2)[2]])
    return (results == -1).mean(), (results == 1).mean()


def run(job):
    network = nn.Sequential(*MLP([18, 96, 96, 1]), nn.Tanh()).to(job.device)
    optimizer = optim.Adam(network.parameters(), lr=2e-3)
    rounds = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
    stones = lambda boards: job.tensor(np.concatenate([boards == 1, boards == -1], -1).astype(np.float32))
    best = lambda boards: values(boards).argmax(1)
    random = lambda boards: np.where(boards == 0, job.rng.random(boards.shape), -1).argmax(1)

    def values(boards):
        """What the network thinks of each move; minus infinity on a taken field."""
        v = job.predict(network, stones(after_moves(boards).reshape(-1, 9)), batch_size=4096)
        return np.where(boards == 0, v.cpu().numpy().reshape(-1, 9), -np.inf)

    def perfect(boards):
        return np.array([perfect_values(tuple(b)) + 0.1 * job.rng.random(9) for b in boards]).argmax(1)

    def explore(boards):
        share = max(0.1, 0.6 - 0.9 * rounds.last_epoch / job.epochs)
        return np.where(job.rng.random(len(boards)) < share, random(boards), best(boards))

    def step():
        positions, results, _ = play(explore, explore, 256)
        losses = []
        for chosen in np.array_split(job.rng.permutation(len(results)), len(results) // 64):
            optimizer.zero_grad()
            loss = F.mse_loss(network(stones(positions[chosen]))[:, 0], job.tensor(results[chosen].astype(np.float32)))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return {"squared error/training": np.mean(losses)}

    evaluate = lambda: {f"games lost/to {name} play": against(best, rival, 100)[0]
                        for name, rival in (("perfect", perfect), ("random", random))}
    history = job.loop(step, {"network": network, "optimizer": optimizer, "scheduler": rounds}, evaluate=evaluate,
                       after=rounds.step, name="self-play")
    lost, baseline = against(best, perfect)[0], against(random, perfect)[0]
    lost_to_random, won_from_random = against(best, random)

    job.draw(plots.curves, "curves", history, {"games lost/random play to perfect": baseline}, xlabel="round",
             title="The error of the value network, and the share of 100 games that it lost")
    draw_moves(job, values)
    return {"games lost to a random player": lost_to_random, "games won against a random player": won_from_random,
            "games lost to perfect play": lost}, baseline


def draw_moves(job, values):
    """What the network thinks of every move in some positions, above what perfect play makes of it."""
    boards = {"empty": "...|...|...", "win here": "XX.|OO.|...", "stop that": "X..|OO.|..X", "fork": "XO.|.X.|..O",
              "reply to a corner": "O..|...|..."}
    with job.figure("moves", 2, len(boards), 2.2, 2.3, "What a move of X is worth: 1 a win, -1 a loss") as axes:
        for column, (name, text) in zip(axes.T, boards.items(), strict=True):
            board = np.array([{"X": 1, "O": -1, ".": 0}[c] for c in text.replace("|", "")])
            for axis, worth in zip(column, (values(board[None])[0], perfect_values(tuple(board))), strict=True):
                worth = np.where(board, np.nan, worth.round(1) + 0.0)
                axis.imshow(worth.reshape(3, 3), cmap="RdBu", vmin=-1.3, vmax=1.3)
                axis.set(xticks=[], yticks=[])
                for field, value in enumerate(worth):
                    axis.text(field % 3, field // 3, " XO"[board[field]] if board[field] else f"{value:+.1f}",
                              ha="center", va="center", color="white" if abs(value) > 0.6 else "black")
            column[0].set_title(name)
        axes[0, 0].set_ylabel("network")
        axes[1, 0].set_ylabel("perfect play")

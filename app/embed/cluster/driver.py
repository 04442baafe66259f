"""The process that speaks with Ray: a task on standard input, messages on standard output.

A process of its own, as Ray writes to both streams what it likes, takes SIGTERM over, and has calls
that nothing interrupts. It ends with the command; the cluster then ends what it had started.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from app.embed.cluster.pool import Node, Pool, pool_for
from app.embed.cluster.task import MESSAGE, TASK, Begun, Failed, Message, Task
from app.embed.cluster.worker import AT_ONCE, ShardWorker
from app.embed.errors import TRY_AGAIN, EmbedError, TryAgainError
from converter.errors import brief
from converter.life_line import when_parent_ends

_CONNECT_SECONDS = 10.0
# Row groups of the windows table that are read at a time.
_READ_AT_ONCE = 2
# Of an actor, and with a shard: then it is no accident.
_MOST_DEATHS = 5

Tell = Callable[[str], None]


def main() -> NoReturn:
    """Make the shards of the task that standard input has in its first line."""
    tell = _telling()
    task = TASK.validate_json(sys.stdin.buffer.readline())
    when_parent_ends(lambda: os._exit(0))
    # Before Ray is imported: nothing is reported to anybody.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        _make(task, tell)
    except EmbedError as error:
        _tell(tell, Failed(error.status, str(error)))
    except Exception as error:
        _tell(tell, Failed(TRY_AGAIN, f"Ray gave up: {brief(error)} ({type(error).__name__})."))
    # Not through what Ray does at exit, which may wait for a cluster that is gone.
    os._exit(0)


def _telling() -> Tell:
    """Lines on standard output, where nothing else comes from now on."""
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda line: print(line, file=messages)


def _tell(tell: Tell, message: Message) -> None:
    tell(MESSAGE.dump_json(message).decode())


def _make(task: Task, tell: Tell) -> None:
    _connect(task.address)
    import ray

    pool = pool_for([_node(each) for each in _alive()], task.settings)
    size = min(pool.size, len(task.shards))
    _tell(tell, Begun(size, len(_alive()), str(pool)))
    try:
        for batch in _answers(task, pool, size):
            for message in batch["message"].tolist():
                tell(message)
    except ray.exceptions.RayActorError as error:
        raise TryAgainError(
            f"An actor on the Ray cluster died more than {_MOST_DEATHS} times: the memory of its "
            "node may be too small for a model, or its node comes and goes. Shards that are there "
            "stay, and the same command goes on from here. Logs of the actors: "
            "/tmp/ray/session_latest/logs on their nodes."
        ) from error
    ray.shutdown()


def _connect(address: str) -> None:
    try:
        if address != "auto":
            # Ray itself would wait for minutes for a machine that is not there.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        import ray

        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        raise TryAgainError(
            f"No Ray cluster answers {where}. Start one: ray start --head --disable-usage-stats"
        ) from error
    except (RuntimeError, ValueError) as error:  # another version of Ray or Python
        raise EmbedError(f"Ray refuses {address}: {brief(error)}") from error


def _answers(task: Task, pool: Pool, size: int) -> Any:
    """Messages of the actors, as they come."""
    import ray.data

    from app.embed.cluster.unfinished import UnfinishedWindows

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None  # a shard stays in one piece
    logging.getLogger("ray").setLevel(logging.ERROR)
    windows = ray.data.read_datasource(
        UnfinishedWindows(task.options.output, task.shards),
        override_num_blocks=len(task.shards),
        concurrency=_READ_AT_ONCE,
        num_cpus=0,
    )
    settings = task.settings.model_copy(update={"threads": pool.threads})
    answers = windows.map_batches(
        ShardWorker,
        fn_constructor_args=(replace(task, settings=settings),),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        compute=ray.data.ActorPoolStrategy(
            size=size,
            max_tasks_in_flight_per_actor=AT_ONCE,
            max_concurrent_calls_per_actor=AT_ONCE,
            enable_true_multi_threading=True,
        ),
        # An actor that died is started again, on another node where its own is gone, and given
        # once more what it had. Ray Data's default is to do so without end.
        max_restarts=_MOST_DEATHS,
        max_task_retries=_MOST_DEATHS,
    )
    return answers.iter_batches(batch_size=None, prefetch_batches=0)


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _node(found: dict[str, Any]) -> Node:
    resources = found["Resources"]
    return Node(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


if __name__ == "__main__":
    main()

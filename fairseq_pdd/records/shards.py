"""Shards of a long job, and the join of the records of fairseq-generate's shards."""

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import orjson

from ..errors import UsageError
from .files import PathLike, replace_file
from .reader import collect_records
from .writer import PARTIAL_SUFFIX


def shard_of(num_shards: int, shard_id: Optional[int]) -> Optional[Tuple[int, int]]:
    """Return the number of the shard to make, and of all shards; None for the whole.

    Raises:
        UsageError: there is no such shard.
    """
    if num_shards < 1:
        raise UsageError(f"--num-shards is {num_shards}: give a number above 0")
    if shard_id is None:
        return None
    if num_shards == 1:
        raise UsageError(f"--shard-id {shard_id} needs --num-shards, the number of all shards")
    if not 0 <= shard_id < num_shards:
        raise UsageError(
            f"--shard-id is {shard_id}: with --num-shards {num_shards}, give one from 0 to "
            f"{num_shards - 1}"
        )
    return shard_id, num_shards


def shard_path(path: str, shard: Tuple[int, int]) -> str:
    """Return the file of a shard's records; ``path`` is that of the whole run."""
    root, extension = os.path.splitext(path)
    return f"{root}.shard{shard[0]}-of-{shard[1]}{extension}"


def join_shards(path: PathLike) -> int:
    """Join the records of all shards of a run, sorted by sentence and rank.

    The lines are those of a run in one process, which writes them in the order of its batches.
    The shards' files remain.

    Args:
        path: ``--uncertainty-path`` of the shards; the file to write.

    Returns:
        The number of sentences.

    Raises:
        UsageError: a shard is missing, unfinished or damaged, two shards hold the same sentence,
            or their records have different measures.
    """
    files = _shards_of(path)
    places = sorted(place for k, file in enumerate(files) for place in _places(k, file))
    for (*key, first, _), (*following, second, _) in zip(places, places[1:]):
        if key == following:
            raise UsageError(
                f"{files[first]} and {files[second]} both hold id {key[0]}, rank {key[1]}: they "
                "are of different runs; make the older one again"
            )
    with ExitStack() as stack:
        output = stack.enter_context(replace_file(path))
        streams = [stack.enter_context(open(file, "rb")) for file in files]

        def copied() -> Iterator[Any]:
            for *_, number, offset in places:
                streams[number].seek(offset)
                line = streams[number].readline()
                output.write(line)
                yield orjson.loads(line)

        return len(set(collect_records(copied(), str(path), token_ranks=0).ids.tolist()))


def _shards_of(path: PathLike) -> List[Path]:
    """Return the files of all shards, by number."""
    root, extension = os.path.splitext(os.path.basename(path))
    name = re.compile(rf"{re.escape(root)}\.shard(\d+)-of-(\d+){re.escape(extension)}")
    folder = Path(path).parent
    matches = [name.fullmatch(file.name) for file in folder.glob("*")]
    found = {(int(m[2]), int(m[1])): folder / m[0] for m in matches if m is not None}
    numbers = sorted({number for number, _ in found})
    if not numbers:
        raise UsageError(
            f"{shard_path(str(path), (0, 2))} and the like do not exist: give the "
            "--uncertainty-path of fairseq-generate --num-shards"
        )
    if len(numbers) > 1:
        raise UsageError(
            f"{folder} holds shards of runs with --num-shards {numbers[0]} and {numbers[1]}: "
            "remove those of the older run"
        )
    shards = range(numbers[0])
    missing = [shard for shard in shards if (numbers[0], shard) not in found]
    if missing:
        raise UsageError(
            f"{shard_path(str(path), (missing[0], numbers[0]))} does not exist: run "
            f"fairseq-generate with --shard-id {missing[0]} to its end"
        )
    files = [found[numbers[0], shard] for shard in shards]
    for file in files:
        if Path(f"{file}{PARTIAL_SUFFIX}").exists():
            raise UsageError(
                f"{file}{PARTIAL_SUFFIX} exists, so this shard is being made again: wait for its "
                "end, or run it again"
            )
    return files


def _places(number: int, file: Path) -> Iterator[Tuple[int, int, int, int]]:
    """Yield id and rank of each record of a file, the file's number, and the line's offset."""
    offset = 0
    with open(file, "rb") as stream:
        for count, line in enumerate(stream, 1):
            try:
                record = orjson.loads(line)
                yield int(record["id"]), int(record["rank"]), number, offset
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{file}, line {count}, is no record: make this shard again"
                ) from error
            offset += len(line)

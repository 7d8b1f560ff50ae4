"""The queues of the service: batches, answers that grow, clients that go."""

import asyncio
import concurrent.futures
import threading
import time

import pytest

from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation
from docproduct.web.batching import Batcher, OverloadedError
from docproduct.web.generation_queue import GenerationQueue


class _Endless:
    """A writer that goes on until nobody listens."""

    def __init__(self):
        self.pieces, self.ended = 0, threading.Event()

    def stream_many(self, prompts, settings):
        del settings
        try:
            for number in range(10_000):
                time.sleep(0.005)
                self.pieces = number
                yield [
                    Generation((1,) * number, "a" * number, len(prompt) == 1 and number > 3, number)
                    for prompt in prompts
                ]
        finally:
            self.ended.set()


def in_loop(work):
    """Runs a coroutine function with a thread to work in."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return asyncio.run(work(executor))


def test_an_answer_that_nobody_reads_is_not_written():
    async def work(executor):
        room, writer = GenerationQueue(executor, 2, 1), _Endless()
        stream = room.write(writer, [5, 6], GenerationSettings())
        assert (await anext(stream)).text == ""
        assert (await anext(stream)).text == "a"
        short = room.write(writer, [5], GenerationSettings())
        waiting = asyncio.ensure_future(anext(short))
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError):
            await anext(room.write(writer, [7], GenerationSettings()))
        assert not writer.ended.is_set()
        await stream.aclose()
        await waiting  # now it is its turn
        assert writer.ended.is_set()
        texts = [generation.text async for generation in short]
        assert texts[-1] == "aaaa"  # its end; the writer was closed then, as nobody else listened
        await asyncio.sleep(0.05)
        return writer.pieces

    assert in_loop(work) <= 6


def test_answers_that_grow_together_end_each_by_itself():
    async def work(executor):
        writer, seen = _Endless(), []
        room = GenerationQueue(executor, 8, 9, seen.append)
        first = [room.write(writer, [1], GenerationSettings()) for _ in range(3)]
        long = room.write(writer, [1, 2], GenerationSettings())
        pending = [asyncio.ensure_future(anext(one)) for one in (*first, long)]
        await asyncio.gather(*pending)
        for one in first:
            assert [generation.finished async for generation in one][-1]
        for _ in range(10):
            await anext(long)
        await long.aclose()
        return seen

    assert in_loop(work) == [4]


def test_a_client_alone_does_not_wait_for_others():
    async def work(executor):
        sizes = []
        batcher = Batcher(lambda items: items, executor, 4, 0.2, 10, sizes.append)
        start = time.perf_counter()
        for i in range(5):
            await batcher(i)
        alone = time.perf_counter() - start
        await asyncio.gather(*(batcher(i) for i in range(3)))  # now it is known that there are several

        async def later():
            await asyncio.sleep(0.05)
            return await batcher(8)

        await asyncio.gather(batcher(7), later())
        return alone, sizes

    alone, sizes = in_loop(work)
    assert alone < 0.2
    assert sizes == [1] * 5 + [3, 2]


def test_a_batch_that_fails_tells_all_who_wait():
    async def work(executor):
        def run(items):
            if 3 in items:
                raise RuntimeError("broken")
            return items

        sizes = []
        batcher = Batcher(run, executor, 2, 0.0, 10, sizes.append)
        found = await asyncio.gather(*(batcher(i) for i in range(6)), return_exceptions=True)
        assert found[:2] + found[4:] == [0, 1, 4, 5]
        assert [str(error) for error in found[2:4]] == ["broken"] * 2
        assert await batcher(7) == 7
        return sizes

    assert in_loop(work) == [2, 2, 2, 1]

"""The queues of the service: batches, streamed answers, clients that leave."""

import asyncio
import concurrent.futures
import threading
import time

import pytest

from docproduct.generation.session import Generation
from docproduct.web.queue import OverloadedError, QueueLimits, WorkQueue


class _Endless:
    """A writer that never ends; only the answer to a prompt of one token is finished, after four letters."""

    def __init__(self):
        self.pieces, self.ended = 0, threading.Event()

    def write(self, prompts):
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

    def queue(self, executor, limits, on_batch=lambda size: None):
        return WorkQueue(self.write, executor, limits, is_last=lambda text: text.finished, on_batch=on_batch)


def echo(items):
    """Yields each item as its own result."""
    yield items


def in_loop(work):
    """Runs a coroutine function with a thread to work in."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return asyncio.run(work(executor))


def test_writing_stops_when_nobody_reads():
    async def work(executor):
        writer = _Endless()
        queue = writer.queue(executor, QueueLimits(2, 1))
        stream = queue.results([5, 6])
        assert (await anext(stream)).text == ""
        assert (await anext(stream)).text == "a"
        short = queue.results([5])
        waiting = asyncio.ensure_future(anext(short))
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError):
            await anext(queue.results([7]))
        assert not writer.ended.is_set()
        await stream.aclose()
        await waiting  # now it is its turn
        assert writer.ended.is_set()
        texts = [generation.text async for generation in short]
        assert texts[-1] == "aaaa"  # its last text; then the writer was closed, because nobody else read
        await asyncio.sleep(0.05)
        return writer.pieces

    assert in_loop(work) <= 6


def test_each_stream_of_a_batch_ends_with_its_own_answer():
    async def work(executor):
        sizes = []
        queue = _Endless().queue(executor, QueueLimits(8, 9), sizes.append)
        first = [queue.results([1]) for _ in range(3)]
        long = queue.results([1, 2])
        pending = [asyncio.ensure_future(anext(stream)) for stream in (*first, long)]
        await asyncio.gather(*pending)
        for stream in first:
            assert [generation.finished async for generation in stream][-1]
        for _ in range(10):
            await anext(long)
        await long.aclose()
        return sizes

    assert in_loop(work) == [4]


def test_a_single_client_does_not_wait_for_others():
    async def work(executor):
        sizes = []
        queue = WorkQueue(echo, executor, QueueLimits(4, 10, max_wait_ms=200), on_batch=sizes.append)
        start = time.perf_counter()
        for i in range(5):
            await queue.result(i)
        alone = time.perf_counter() - start
        await asyncio.gather(*(queue.result(i) for i in range(3)))  # now the queue knows that there are several clients

        async def later():
            await asyncio.sleep(0.05)
            return await queue.result(8)

        await asyncio.gather(queue.result(7), later())
        return alone, sizes

    alone, sizes = in_loop(work)
    assert alone < 0.2
    assert sizes == [1] * 5 + [3, 2]


def test_a_failing_batch_raises_for_each_of_its_items():
    async def work(executor):
        def run(items):
            if 3 in items:
                raise RuntimeError("broken")
            yield items

        sizes = []
        queue = WorkQueue(run, executor, QueueLimits(2, 10), on_batch=sizes.append)
        results = await asyncio.gather(*(queue.result(i) for i in range(6)), return_exceptions=True)
        assert results[:2] + results[4:] == [0, 1, 4, 5]
        assert [str(error) for error in results[2:4]] == ["broken"] * 2
        assert await queue.result(7) == 7
        return sizes

    assert in_loop(work) == [2, 2, 2, 1]


def test_a_batch_holds_items_of_one_key():
    async def work(executor):
        batches = []

        def run(items):
            batches.append(list(items))
            yield items

        queue = WorkQueue(run, executor, QueueLimits(2, 10), key=lambda item: item % 2)
        assert await asyncio.gather(*(queue.result(i) for i in range(6))) == list(range(6))
        return batches

    # The first waiting item decides: 0 with the next even number, then 1 with the next odd one.
    assert in_loop(work) == [[0, 2], [1, 3], [4], [5]]


def test_a_client_that_leaves_takes_its_item_out_of_the_queue():
    async def work(executor):
        go_on, started = threading.Event(), []

        def run(items):
            started.extend(items)
            go_on.wait(20)
            yield items

        queue = WorkQueue(run, executor, QueueLimits(1, 2))
        tasks = []
        for i in range(3):
            tasks.append(asyncio.ensure_future(queue.result(i)))
            await asyncio.sleep(0.05)
        assert queue.num_waiting == 2
        with pytest.raises(OverloadedError, match="2 items wait; at most 2 may"):
            await queue.result(9)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        assert queue.num_waiting == 1
        queue.check_room()
        go_on.set()
        assert (await tasks[0], await tasks[2]) == (0, 2)
        return started

    assert in_loop(work) == [0, 2]


def test_work_that_gives_too_few_results_fails_for_all():
    async def work(executor):
        def run(items):
            yield items[1:]

        queue = WorkQueue(run, executor, QueueLimits(4, 10))
        return await asyncio.gather(*(queue.result(i) for i in range(3)), return_exceptions=True)

    assert [type(error) for error in in_loop(work)] == [ValueError] * 3

from collections import Counter

from taskvectors.tasks import Example, Task


def make_task(n: int = 12) -> Task:
    pairs = [Example(input=f"in {i}", output=f"out {i % 5}") for i in range(3 * n)]
    return Task(
        name="t",
        description="",
        template="qa",
        source="here",
        license="none",
        seed=0,
        train=tuple(pairs[:n]),
        validation=tuple(pairs[n : 2 * n]),
        test=tuple(pairs[2 * n :]),
        notes=("a note",),
    )


def test_labels_are_distinct_outputs_of_all_splits_in_first_seen_order() -> None:
    task = make_task()
    assert task.labels == ("out 0", "out 1", "out 2", "out 3", "out 4")
    last = Example(input="x", output="only in test")
    assert Task(**{**vars(task), "test": (last,)}).labels[-1] == "only in test"


def test_shuffling_permutes_outputs_within_their_split_and_leaves_test_alone() -> None:
    task = make_task()
    shuffled = task.shuffled(3)
    for name in ("train", "validation"):
        before, after = getattr(task, name), getattr(shuffled, name)
        assert [pair.input for pair in after] == [pair.input for pair in before]
        assert [pair.output for pair in after] != [pair.output for pair in before]
        assert Counter(p.output for p in after) == Counter(p.output for p in before)
    assert shuffled.test == task.test
    assert shuffled.notes[0] == "a note"
    assert "shuffled" in shuffled.notes[1]


def test_shuffling_is_a_function_of_its_seed() -> None:
    task = make_task()
    assert task.shuffled(1) == task.shuffled(1)
    assert task.shuffled(1).train != task.shuffled(2).train


def test_the_two_splits_are_not_shuffled_alike() -> None:
    task = make_task()
    alike = Task(**{**vars(task), "validation": task.train}).shuffled(0)
    assert alike.train != alike.validation

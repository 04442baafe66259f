from tests.support.tiny_training import TINY


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    shares = [TINY.learning_rate_share(step, 100) for step in range(101)]
    assert shares[0] == 1 / 4
    assert shares[3:70] == [1] * 67
    assert shares[69:] == sorted(set(shares[69:]), reverse=True)
    assert 0 < shares[99] < 1 / 20
    assert shares[100] == 0

import kvsim
from kvsim.report.run_clock import RunClock, peak_rss_bytes


def test_run_adds_up_the_systems(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, sim_cpu_s=1.5, events=30)]
    run = RunClock().section(mode="pd", preset=None, seed=7, results=results)
    assert run.version == kvsim.__version__
    assert (run.mode, run.preset, run.seed) == ("pd", None, 7)
    assert (run.sim_cpu_s, run.events, run.requests_per_cpu_s) == (2.0, 100, 10.0)
    assert run.status == "complete"
    assert run.cpu_s > 0 and run.wall_s >= 0 and 2**20 < run.peak_rss_bytes == peak_rss_bytes()


def test_an_interrupted_system_makes_the_run_incomplete(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, incomplete=True)]
    assert RunClock().section(mode="pd", preset=None, seed=7, results=results).status == "incomplete"

use proptest::prelude::*;

use super::*;

const INIT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(3);

/// A machine, its time, and what it last said.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Bench { machine: Machine::new(INIT, TIMEOUT), now: Instant::now() }
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut out);
        out
    }

    /// Idle after an init of 100 ms.
    fn idle() -> Self {
        let mut bench = Bench::new();
        bench.tell(Input::Made);
        bench.after(100).tell(Input::Ready);
        bench
    }

    fn invoking() -> Self {
        let mut bench = Bench::idle();
        bench.tell(Input::Invoke);
        bench
    }

    /// No process runs, after an init that failed.
    fn down() -> Self {
        let mut bench = Bench::new();
        bench.tell(Input::Made);
        bench.tell(Input::Exited(ErrorType::RUNTIME_EXIT));
        bench.tell(Input::ResetDone);
        bench
    }
}

fn finish(status: Status, error_type: Option<ErrorType>, ms: u64, init_ms: Option<u64>) -> Effect {
    let init_duration = init_ms.map(Duration::from_millis);
    Effect::Finish { status, error_type, duration: Duration::from_millis(ms), init_duration }
}

fn init_ended(ms: u64, phase: InitPhase, status: Status, error_type: Option<ErrorType>) -> Effect {
    Effect::InitEnded { duration: Duration::from_millis(ms), phase, status, error_type }
}

const SAMPLE: Effect = Effect::Sample { end: true };
const TIMEOUT_RESET: Effect = Effect::Reset(ShutdownReason::Timeout);
const FAILURE_RESET: Effect = Effect::Reset(ShutdownReason::Failure);

#[test]
fn a_cold_start_delivers_the_call_that_waits_and_reports_init_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Input::Invoke), []);
    assert_eq!(bench.tell(Input::Made), [Effect::Start(InitPhase::Init)]);
    let deadline = bench.now + Duration::from_millis(100) + TIMEOUT;
    let initialised = init_ended(100, InitPhase::Init, Status::Success, None);
    let ready = bench.after(100).tell(Input::Ready);
    assert_eq!(ready, [SAMPLE, initialised, Effect::LimitCpu, Effect::Deliver { deadline }]);
    assert_eq!(bench.after(5).tell(Input::Answered(None)), []);
    let ended = bench.after(6).tell(Input::Ready);
    assert_eq!(ended, [SAMPLE, finish(Status::Success, None, 11, Some(100)), Effect::Idle]);
    let deadline = bench.now + TIMEOUT;
    assert_eq!(bench.tell(Input::Invoke), [Effect::Deliver { deadline }]);
    bench.after(1).tell(Input::Answered(None));
    assert_eq!(bench.tell(Input::Ready), [finish(Status::Success, None, 1, None), Effect::Idle]);
}

#[test]
fn an_idle_environment_is_frozen_after_a_moment_and_thawed_for_a_call() {
    let mut bench = Bench::idle();
    assert_eq!(bench.tell(Input::Tick), []);
    let due = bench.machine.wake_at().unwrap();
    assert_eq!(due - bench.now, FREEZE_AFTER);
    bench.now = due;
    assert_eq!(bench.tell(Input::Tick), [Effect::Freeze]);
    assert_eq!(bench.machine.wake_at(), None, "a frozen environment needs no timer");
    assert_eq!(bench.tell(Input::Tick), []);
    let deadline = bench.now + TIMEOUT;
    assert_eq!(bench.tell(Input::Invoke), [Effect::Thaw, Effect::LimitCpu, Effect::Deliver { deadline }]);
}

#[test]
fn a_call_right_after_another_finds_nothing_frozen() {
    let mut bench = Bench::idle();
    assert!(!bench.after(1).tell(Input::Invoke).contains(&Effect::Thaw));
}

#[test]
fn an_invocation_that_takes_too_long_ends_at_its_timeout() {
    let mut bench = Bench::invoking();
    assert_eq!(bench.machine.wake_at(), Some(bench.now + SAMPLE_EVERY));
    bench.after(2_999).tell(Input::Tick);
    assert_eq!(bench.machine.wake_at(), Some(bench.now + Duration::from_millis(1)));
    let ended = bench.after(4).tell(Input::Tick);
    assert_eq!(ended, [SAMPLE, Effect::TimedOut, finish(Status::Timeout, None, 3_000, Some(100)), TIMEOUT_RESET]);
    assert_eq!(bench.tell(Input::ResetDone), [Effect::Idle]);
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)], "the next one initialises again");
}

#[test]
fn a_runtime_that_answers_and_never_asks_again_times_out_too() {
    let mut bench = Bench::invoking();
    bench.tell(Input::Answered(None));
    let ended = bench.after(3_000).tell(Input::Tick);
    assert!(ended.contains(&finish(Status::Timeout, None, 3_000, Some(100))), "{ended:?}");
}

#[test]
fn a_handler_error_is_in_the_report() {
    let mut bench = Bench::invoking();
    bench.tell(Input::Answered(Some(ErrorType::FUNCTION_UNKNOWN)));
    let ended = bench.after(1).tell(Input::Ready);
    assert!(ended.contains(&finish(Status::Error, Some(ErrorType::FUNCTION_UNKNOWN), 1, Some(100))), "{ended:?}");
}

#[test]
fn an_exit_fails_the_invocation_and_resets() {
    for answered in [false, true] {
        let mut bench = Bench::invoking();
        if answered {
            bench.tell(Input::Answered(None));
        }
        let ended = bench.after(2).tell(Input::Exited(ErrorType::RUNTIME_EXIT));
        let report = finish(Status::Error, Some(ErrorType::RUNTIME_EXIT), 2, Some(100));
        assert_eq!(ended, [Effect::Fail, report, FAILURE_RESET]);
    }
}

#[test]
fn init_that_fails_is_tried_again_inside_the_call_that_waits() {
    let mut bench = Bench::new();
    bench.tell(Input::Made);
    bench.tell(Input::Invoke);
    let kind = ErrorType::posted("Runtime.ImportModuleError");
    let failed = bench.after(50).tell(Input::Failed(kind.clone()));
    assert_eq!(failed, [init_ended(50, InitPhase::Init, Status::Error, Some(kind.clone())), FAILURE_RESET]);
    assert_eq!(bench.tell(Input::ResetDone), [Effect::Start(InitPhase::Invoke)]);
    let failed = bench.after(60).tell(Input::Failed(kind.clone()));
    let expected = [
        init_ended(60, InitPhase::Invoke, Status::Error, Some(kind.clone())),
        Effect::Fail,
        finish(Status::Error, Some(kind), 60, None),
        FAILURE_RESET,
    ];
    assert_eq!(failed, expected);
}

#[test]
fn init_inside_an_invocation_counts_to_its_time_and_is_no_init_duration() {
    let mut bench = Bench::down();
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)]);
    let deadline = bench.now + TIMEOUT;
    let ready = bench.after(1_000).tell(Input::Ready);
    let initialised = init_ended(1_000, InitPhase::Invoke, Status::Success, None);
    assert_eq!(ready, [SAMPLE, initialised, Effect::LimitCpu, Effect::Deliver { deadline }]);
    bench.tell(Input::Answered(None));
    let ended = bench.after(20).tell(Input::Ready);
    assert!(ended.contains(&finish(Status::Success, None, 1_020, None)), "{ended:?}");
}

#[test]
fn init_inside_an_invocation_that_crashes_is_tried_again_until_the_time_is_over() {
    let mut bench = Bench::down();
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)]);
    let ended = |ms| init_ended(ms, InitPhase::Invoke, Status::Error, Some(ErrorType::RUNTIME_EXIT));
    for crash in 1..=CRASHES_MAX {
        let crashed = bench.after(20).tell(Input::Crashed(ErrorType::RUNTIME_EXIT));
        assert_eq!(crashed, [ended(20), FAILURE_RESET]);
        let again: &[Effect] = if crash < CRASHES_MAX { &[Effect::Start(InitPhase::Invoke)] } else { &[] };
        assert_eq!(bench.after(10).tell(Input::ResetDone), again);
    }
    let over = bench.after(3_000).tell(Input::Tick);
    assert_eq!(over, [SAMPLE, Effect::TimedOut, finish(Status::Timeout, None, 3_000, None), Effect::Idle]);
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)]);
    // Once it runs, a crash is an exit like any other.
    bench.tell(Input::Ready);
    let crashed = bench.after(5).tell(Input::Crashed(ErrorType::RUNTIME_EXIT));
    assert!(crashed.starts_with(&[Effect::Fail]) && crashed.contains(&FAILURE_RESET), "{crashed:?}");
}

#[test]
fn time_that_is_over_while_a_crash_is_cleared_away_waits_for_that() {
    let mut bench = Bench::down();
    bench.tell(Input::Invoke);
    bench.after(2_990).tell(Input::Crashed(ErrorType::RUNTIME_EXIT));
    let over = bench.after(20).tell(Input::Tick);
    assert_eq!(over, [SAMPLE, Effect::TimedOut, finish(Status::Timeout, None, 3_000, None)]);
    assert_eq!(bench.tell(Input::ResetDone), [Effect::Idle]);
    assert!(bench.machine.accepts());
}

#[test]
fn the_runtime_starts_when_the_extensions_have_registered_and_init_counts_from_before() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Input::Registered), [], "nothing has been started");
    assert_eq!(bench.tell(Input::Made), [Effect::Start(InitPhase::Init)]);
    assert_eq!(bench.after(300).tell(Input::Registered), [Effect::StartRuntime]);
    let ready = bench.after(200).tell(Input::Ready);
    assert_eq!(ready, [SAMPLE, init_ended(500, InitPhase::Init, Status::Success, None), Effect::Idle]);
    let mut bench = Bench::down();
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)]);
    assert_eq!(bench.tell(Input::Registered), [Effect::StartRuntime]);
}

#[test]
fn an_invocation_lasts_until_all_have_asked_though_it_was_answered() {
    let mut bench = Bench::invoking();
    assert_eq!(bench.after(5).tell(Input::Answered(None)), []);
    assert!(!bench.machine.accepts());
    let ended = bench.after(500).tell(Input::Ready);
    assert!(ended.contains(&finish(Status::Success, None, 505, Some(100))), "{ended:?}");
}

#[test]
fn init_has_ten_seconds_and_inside_an_invocation_the_functions_timeout() {
    let mut bench = Bench::new();
    bench.tell(Input::Made);
    assert!(!bench.after(9_999).tell(Input::Tick).contains(&TIMEOUT_RESET));
    let expired = bench.after(5).tell(Input::Tick);
    assert_eq!(expired, [init_ended(10_000, InitPhase::Init, Status::Timeout, None), TIMEOUT_RESET]);
    bench.tell(Input::ResetDone);
    bench.tell(Input::Invoke);
    let expired = bench.after(3_001).tell(Input::Tick);
    let expected = [
        SAMPLE,
        init_ended(3_000, InitPhase::Invoke, Status::Timeout, None),
        Effect::TimedOut,
        finish(Status::Timeout, None, 3_000, None),
        TIMEOUT_RESET,
    ];
    assert_eq!(expired, expected);
}

#[test]
fn a_process_that_ends_while_idle_is_started_again_by_the_next_call() {
    let mut bench = Bench::idle();
    bench.after(10).tell(Input::Tick);
    assert_eq!(bench.tell(Input::Exited(ErrorType::RUNTIME_EXIT)), [Effect::Thaw, FAILURE_RESET]);
    assert_eq!(bench.tell(Input::ResetDone), [], "the owner knows that it is idle");
    assert_eq!(bench.tell(Input::Invoke), [Effect::Start(InitPhase::Invoke)]);
}

#[test]
fn a_sandbox_that_is_lost_refuses_what_has_not_begun_and_fails_what_has() {
    let mut bench = Bench::new();
    bench.tell(Input::Invoke);
    assert_eq!(bench.tell(Input::Lost), [Effect::Refuse, Effect::End(None)]);
    let mut bench = Bench::invoking();
    let report = finish(Status::Failure, Some(ErrorType::SANDBOX_FAILURE), 7, Some(100));
    assert_eq!(
        bench.after(7).tell(Input::Shutdown),
        [Effect::Fail, report, Effect::End(Some(ShutdownReason::Spindown))]
    );
    assert!(!bench.machine.accepts());
    assert_eq!(bench.tell(Input::Shutdown), []);
}

#[test]
fn memory_is_sampled_at_ends_and_in_between_but_not_for_every_short_call() {
    let mut bench = Bench::invoking();
    assert_eq!(bench.after(49).tell(Input::Tick), []);
    assert_eq!(bench.after(1).tell(Input::Tick), [Effect::Sample { end: false }]);
    assert_eq!(bench.after(50).tell(Input::Tick), [Effect::Sample { end: false }]);
    bench.tell(Input::Answered(None));
    assert!(bench.after(9).tell(Input::Ready).contains(&SAMPLE), "a long one may have taken much since");
    for _ in 0..7 {
        bench.tell(Input::Invoke);
        bench.tell(Input::Answered(None));
        assert!(!bench.after(7).tell(Input::Ready).contains(&SAMPLE), "short, and sampled within 50 ms");
    }
    bench.tell(Input::Invoke);
    bench.tell(Input::Answered(None));
    assert!(bench.after(1).tell(Input::Ready).contains(&SAMPLE));
    bench.tell(Input::Invoke);
    bench.tell(Input::Answered(None));
    assert!(bench.after(10).tell(Input::Ready).contains(&SAMPLE), "not short");
}

#[test]
fn a_program_that_crashes_while_idle_is_started_again_by_the_next_call() {
    let mut bench = Bench::invoking();
    bench.tell(Input::Answered(None));
    bench.tell(Input::Ready);
    assert_eq!(bench.tell(Input::Crashed(ErrorType::RUNTIME_EXIT)), [FAILURE_RESET]);
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        1 => Just(Input::Made),
        1 => Just(Input::Registered),
        4 => Just(Input::Invoke),
        6 => Just(Input::Ready),
        4 => Just(Input::Answered(None)),
        1 => Just(Input::Answered(Some(ErrorType::FUNCTION_UNKNOWN))),
        1 => Just(Input::Failed(ErrorType::RUNTIME_UNKNOWN)),
        1 => Just(Input::Exited(ErrorType::RUNTIME_EXIT)),
        1 => Just(Input::Crashed(ErrorType::RUNTIME_EXIT)),
        3 => Just(Input::ResetDone),
        4 => Just(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever happens in whatever order: every call that was taken ends in exactly one report or one refusal, at most
    /// one is under way, and the function runs only while one is.
    #[test]
    fn every_call_ends_exactly_once(
        inputs in prop::collection::vec((input(), 0u64..4_000), 0..80),
        last in prop_oneof![Just(Input::Lost), Just(Input::Shutdown)],
    ) {
        let mut bench = Bench::new();
        let (mut taken, mut ended, mut delivered, mut answered) = (0u32, 0u32, false, false);
        let (mut frozen, mut resetting, mut gone) = (false, false, 0);
        let inputs = inputs.into_iter().chain([(last, 0)]);
        for (input, ms) in inputs {
            bench.after(ms);
            match &input {
                Input::Invoke if !bench.machine.accepts() => continue,
                Input::Invoke => taken += 1,
                // The driver task says so only when it was asked to.
                Input::ResetDone if !resetting => continue,
                Input::ResetDone => resetting = false,
                // The protocol lets no one answer twice, or without an event.
                Input::Answered(_) if !delivered || answered => continue,
                Input::Answered(_) => answered = true,
                _ => {}
            }
            for effect in bench.tell(input) {
                match effect {
                    Effect::Finish { .. } => {
                        ended += 1;
                        (delivered, answered) = (false, false);
                    }
                    Effect::Refuse => ended += 1,
                    Effect::Deliver { deadline } => {
                        prop_assert!(!delivered && !frozen && taken == ended + 1);
                        prop_assert!(deadline <= bench.now + TIMEOUT);
                        delivered = true;
                    }
                    Effect::Freeze => {
                        prop_assert_eq!(taken, ended, "frozen while a call waits");
                        prop_assert!(!frozen);
                        frozen = true;
                    }
                    Effect::Thaw => {
                        prop_assert!(frozen);
                        frozen = false;
                    }
                    Effect::Reset(_) => {
                        prop_assert!(!frozen && !resetting);
                        resetting = true;
                    }
                    Effect::Idle => prop_assert!(bench.machine.accepts()),
                    Effect::End(_) => gone += 1,
                    Effect::Fail | Effect::TimedOut => prop_assert_eq!(taken, ended + 1),
                    Effect::Start(_) | Effect::StartRuntime => prop_assert!(!resetting && !frozen),
                    Effect::LimitCpu | Effect::Sample { .. } | Effect::InitEnded { .. } => {}
                }
                prop_assert!(ended <= taken && taken <= ended + 1);
            }
        }
        prop_assert_eq!(taken, ended);
        prop_assert_eq!(gone, 1);
    }
}

//! One run of one batch, and what becomes of its records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{
    FunctionArn, FunctionVersion, Invocation, InvokeError, LookupError, RESPONSE_PAYLOAD_MAX, RequestId, ResponseMode,
    Target, Trace, Way, draw,
};

use crate::counts::add;
use crate::machine::{Batch, Ended, FRAME};
use crate::mappings::{Live, Shared};
use crate::source::{Reader, Source, Taken};
use crate::verdict::{self, Verdict};

/// Waits before what could not be settled is settled again.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

pub async fn run(shared: Arc<Shared>, live: Arc<Live>, source: Arc<dyn Source>, batch: Batch) -> (Batch, Ended) {
    let ended = Run { shared: &shared, live: &live, source: &*source }.run(&batch).await;
    (batch, ended)
}

/// On whose behalf a mapping reads; nobody's when its function is gone.
pub fn reader(shared: &Shared, live: &Live) -> Reader {
    let arn = FunctionArn::parse(&live.record().function);
    let account = arn.as_ref().map(|arn| arn.account.to_string()).unwrap_or_default();
    let function = arn.and_then(|arn| shared.ports.functions.known(&arn).ok());
    Reader { account, role: function.map(|function| function.role.clone()).unwrap_or_default() }
}

struct Run<'a> {
    shared: &'a Arc<Shared>,
    live: &'a Live,
    source: &'a dyn Source,
}

impl Run<'_> {
    async fn run(&self, batch: &Batch) -> Ended {
        let record = self.live.record();
        let functions = &self.shared.ports.functions;
        let drawn = |target: Target| target.choose(draw(uuid::Uuid::new_v4().as_u128()));
        let found = FunctionArn::parse(&record.function).map(|arn| (functions.find(&arn).and_then(drawn), arn));
        let function = match found {
            Some((Ok(function), _)) => function,
            Some((Err(LookupError::NotReady(_) | LookupError::Idle(_)), arn)) => {
                functions.wake(&arn);
                return Ended::Refused;
            }
            _ => return Ended::Over,
        };
        let reader = Reader { account: function.key.account.to_string(), role: function.role.clone() };
        let (records, trace) = self.let_through(batch, &function);
        if records.is_empty() {
            return Ended::Over;
        }
        match invoke(self.shared, &record.function, function, (length(&records), &|| payload(&records)), trace).await {
            Ok(Answered { answer, failed, .. }) => {
                let ids: Vec<&str> = records.iter().map(|record| &*record.id).collect();
                let verdict = verdict::of(&answer, failed, record.settings.reports, &ids);
                add(&self.live.numbers.invoked, records.len());
                self.settle(reader, batch, &records, verdict).await;
                Ended::Over
            }
            Err(InvokeError::Throttled(_) | InvokeError::HostFull { .. }) => Ended::Throttled,
            Err(InvokeError::ShuttingDown) => {
                let handles = batch.records.iter().map(|record| record.handle.clone()).collect();
                if let Err(error) = self.source.give_back(reader, handles).await {
                    tracing::warn!(mapping = %self.live.uuid, %error, "records come again only after their timeout");
                }
                Ended::Over
            }
            Err(error) => {
                self.live.has_problem(Some(format!("PROBLEM: {error}")));
                Ended::Refused
            }
        }
    }

    /// The records that are no part of a loop, and the trace of their run: of the one that has come furthest. What is cut
    /// stays at its source, whose own dead letters may take it.
    fn let_through<'a>(&self, batch: &'a Batch, function: &FunctionVersion) -> (Vec<&'a Taken>, Trace) {
        let Shared { ports, .. } = &**self.shared;
        let arn = function.arn();
        let allowed = || ports.functions.allows_loops(&function.key);
        let (seconds, chance) = (self.shared.now() / 1000, uuid::Uuid::new_v4().as_u128());
        let mut furthest: Option<(u32, Trace)> = None;
        let mut records = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            let mut trace = Trace::of(record.trace.as_deref(), seconds, chance);
            let runs = match ports.guard.enter(&mut trace, &arn, Way::Sent, allowed) {
                Ok(runs) => runs,
                Err(cut) => {
                    tracing::warn!(
                        mapping = %self.live.uuid, function = %arn, record = %record.id, runs = cut.runs,
                        trace = %trace.for_caller, "a recursive loop was cut: a record stays at its source"
                    );
                    // What comes after it in its group must not be run before it.
                    if self.live.record().is_fifo() {
                        break;
                    }
                    continue;
                }
            };
            if furthest.as_ref().is_none_or(|(most, _)| runs > *most) {
                furthest = Some((runs, trace));
            }
            records.push(record);
        }
        let trace = furthest.map(|(_, trace)| trace);
        (records, trace.unwrap_or_else(|| Trace::of(None, seconds, chance)))
    }

    /// What went well leaves its source; the rest comes again when its timeout is over.
    async fn settle(&self, reader: Reader, batch: &Batch, records: &[&Taken], verdict: Verdict) {
        let went_well = |at: &usize| match &verdict {
            Verdict::Success => true,
            Verdict::Failed => false,
            Verdict::Partly(failed) => !failed.contains(at),
        };
        let good = (0..records.len()).filter(went_well);
        let handles: Vec<String> = good.map(|at| records[at].handle.clone()).collect();
        add(&self.live.numbers.failed, records.len() - handles.len());
        if handles.is_empty() {
            return;
        }
        let mut wait = AGAIN_FIRST;
        while self.shared.now() < batch.expires() {
            match self.source.settle(reader.clone(), handles.clone()).await {
                Ok(()) => {
                    add(&self.live.numbers.deleted, handles.len());
                    return;
                }
                Err(error) => tracing::error!(mapping = %self.live.uuid, %error, "records cannot be settled"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }
}

/// What a run answered.
pub struct Answered {
    pub answer: Bytes,
    /// It is an error.
    pub failed: bool,
    pub version: String,
    pub request_id: String,
}

/// Runs a function, when there is room for a payload of such a length, which is made then.
pub async fn invoke(
    shared: &Shared,
    arn: &str,
    function: Arc<FunctionVersion>,
    (length, payload): (usize, &(dyn Fn() -> Bytes + Sync)),
    trace: Trace,
) -> Result<Answered, InvokeError> {
    let kib = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX);
    // It is never closed.
    let _room = shared.room.acquire_many(kib).await.map_err(|_| InvokeError::ShuttingDown)?;
    let request_id = uuid::Uuid::new_v4().to_string();
    let invocation = Invocation {
        request_id: RequestId::new(request_id.as_str()),
        function,
        invoked_arn: arn.to_owned(),
        payload: payload(),
        content_type: None,
        client_context: None,
        tenant: None,
        trace: Some(trace.for_runtime),
        wants_log_tail: false,
        mode: ResponseMode::Buffered,
    };
    let response = shared.invoke()?.invoke(invocation).await?;
    let failed = response.head.function_error.is_some();
    let version = response.head.executed_version.to_string();
    let answered = |answer, failed| Answered { answer, failed, version, request_id };
    match response.collect(RESPONSE_PAYLOAD_MAX).await {
        Ok((_, body, _)) => Ok(answered(body, failed)),
        // It ran; nothing can be read of what it says.
        Err(_) => Ok(answered(Bytes::new(), true)),
    }
}

fn length(records: &[&Taken]) -> usize {
    FRAME + records.iter().map(|record| record.json.len() + 1).sum::<usize>()
}

fn payload(records: &[&Taken]) -> Bytes {
    let mut text = String::with_capacity(length(records));
    text.push_str("{\"Records\":[");
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&record.json);
    }
    text.push_str("]}");
    text.into()
}

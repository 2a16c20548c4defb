//! Event-invoke configurations: what is stored, and the handlers of the group `async invoke configs` (spec 5.3).

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use dashmap::DashMap;
use hearth_model::{AccountId, FunctionArn, FunctionName, FunctionRef, LookupError, Qualifier, RefError, Region};
use hearth_store::{Expect, Key, Records, RecordsError, Write};
use hearth_wire::coverage::{Coverage, Parameter, refused, works};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Error};
use hearth_wire_lambda::EventInvokeConfigsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found, service_exception,
};
use hearth_wire_lambda::other_account;
use hearth_wire_lambda::page::{MOST, Page};
use hearth_wire_lambda::types::*;
use serde::{Deserialize, Serialize};

use crate::destination::{Service, Target};
use crate::events::{Events, OpenError};
use crate::note::partition;

const KIND: &str = "event-invoke-config";
/// Records read at once.
const PAGE: usize = 1000;

const DESTINATIONS: &[Parameter] = &[refused(
    "DestinationConfig",
    "topics and event buses without an endpoint; functions and queues work, buckets on failure",
)];

/// The operations of this crate.
pub const COVERAGE: &[Coverage] = &[
    Coverage { operation: "PutFunctionEventInvokeConfig", parameters: DESTINATIONS },
    Coverage { operation: "UpdateFunctionEventInvokeConfig", parameters: DESTINATIONS },
    works("GetFunctionEventInvokeConfig"),
    works("DeleteFunctionEventInvokeConfig"),
    works("ListFunctionEventInvokeConfigs"),
];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub retries: Option<u32>,
    pub age_max_s: Option<u32>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    /// Seconds since 1970.
    last_modified: f64,
}

/// Every configuration, as it is on disk, by the qualified ARN of what it is for.
pub struct Configs {
    records: Arc<dyn Records>,
    all: DashMap<FunctionArn, Arc<Config>>,
    /// Writers take turns: each decides on what the one before has written.
    turn: tokio::sync::Mutex<()>,
}

impl Configs {
    pub async fn open(records: Arc<dyn Records>) -> Result<Self, OpenError> {
        let all = DashMap::new();
        let mut after = None;
        loop {
            let page = records.all(KIND, after, PAGE).await?;
            for record in &page {
                let damaged = || OpenError::Damaged(record.id.clone());
                let arn = address(&record.key_partition, &record.id).ok_or_else(damaged)?;
                let config = serde_json::from_slice(&record.value).map_err(|_| damaged())?;
                all.insert(arn, Arc::new(config));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some((last.key_partition.clone(), last.id.clone())),
                _ => return Ok(Configs { records, all, turn: tokio::sync::Mutex::default() }),
            }
        }
    }

    /// What holds for a function as it was invoked.
    pub fn find(&self, arn: &FunctionArn) -> Option<Arc<Config>> {
        match arn.qualifier {
            Some(_) => self.all.get(arn).map(|config| config.clone()),
            None => self.all.get(&latest(arn)).map(|config| config.clone()),
        }
    }

    pub fn destination(&self, arn: &FunctionArn, success: bool) -> Option<String> {
        let config = self.find(arn)?;
        if success { config.on_success.clone() } else { config.on_failure.clone() }
    }

    fn of_function(&self, arn: &FunctionArn) -> Vec<(FunctionArn, Arc<Config>)> {
        let mut all: Vec<_> = self
            .all
            .iter()
            .filter(|entry| entry.key().unqualified() == arn.unqualified())
            .map(|entry| (entry.key().clone(), entry.value().clone()))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    async fn put(&self, arn: &FunctionArn, config: Config) -> Result<(), RecordsError> {
        let value = serde_json::to_vec(&config).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        let write = Write::Put { key: key(arn), expect: Expect::Anything, value: value.into() };
        self.records.commit(vec![write]).await?;
        self.all.insert(arn.clone(), Arc::new(config));
        Ok(())
    }
}

impl Events {
    /// What the removal of a function, or with a qualifier of its version or alias, removes with it: to be written in the
    /// same transaction.
    pub fn removal(&self, arn: &FunctionArn) -> Vec<Write> {
        let gone = self.removed_with(arn).into_iter();
        gone.map(|arn| Write::Delete { key: key(&arn), expect: Expect::Anything }).collect()
    }

    /// What [`Events::removal`] said is gone.
    pub fn removed(&self, arn: &FunctionArn) {
        for arn in self.removed_with(arn) {
            self.shared.configs.all.remove(&arn);
        }
    }

    fn removed_with(&self, arn: &FunctionArn) -> Vec<FunctionArn> {
        let all = self.shared.configs.of_function(arn).into_iter().map(|(arn, _)| arn);
        all.filter(|of| arn.qualifier.is_none() || of == arn).collect()
    }

    /// The qualified ARN that a request means. The caller's own functions only.
    fn asked(&self, cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<FunctionArn, Error> {
        let account = AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account);
        let region = Region::parse(&cx.region).unwrap_or_else(Region::default_region);
        let reference = FunctionRef::parse(name.unwrap_or_default());
        let arn = reference.and_then(|reference| reference.resolve(&account, &region, qualifier));
        let arn = arn.map_err(|error| match error {
            RefError::OtherRegion { .. } => not_found(error.to_string()),
            RefError::NameTooLong { .. } => no_function(),
            RefError::OtherAccount => other_account(),
            RefError::QualifierMismatch | RefError::Malformed => invalid(error.to_string()),
        })?;
        Ok(if arn.qualifier.is_some() { arn } else { latest(&arn) })
    }

    fn exists(&self, arn: &FunctionArn) -> bool {
        !matches!(self.shared.ports.functions.find(arn), Err(LookupError::NotFound(_)))
    }

    /// A destination that is asked for, checked. Empty text is none.
    fn destination(&self, of: &FunctionArn, asked: &Asked, success: bool) -> Result<Option<String>, Error> {
        let given = if success { &asked.on_success } else { &asked.on_failure };
        let Some(arn) = given.as_deref().filter(|arn| !arn.is_empty()) else { return Ok(None) };
        let wrong = || invalid(format!("The provided destination config {} is invalid.", asked.said()));
        let target = Target::parse(arn).ok_or_else(wrong)?;
        match target.service {
            Service::S3 if success => return Err(wrong()),
            Service::Lambda => {
                let unknown = || invalid(format!("The destination ARN {arn} is invalid."));
                let function = FunctionArn::parse(arn).ok_or_else(unknown)?;
                if function.unqualified() == of.unqualified() {
                    return Err(invalid("You can't specify the function as a destination for itself."));
                }
                if !self.exists(&function) {
                    return Err(unknown());
                }
            }
            service => {
                if let Some(why) = self.shared.ports.couriers.unable(service) {
                    return Err(Error::not_supported(format_args!("destinations of {why}")));
                }
            }
        }
        Ok(Some(arn.to_owned()))
    }

    async fn write(
        &self,
        cx: &Context,
        (name, qualifier): (Option<&str>, Option<&str>),
        asked: Asked,
        merge: bool,
    ) -> Result<FunctionEventInvokeConfig, Error> {
        let arn = self.asked(cx, name, qualifier)?;
        if !self.exists(&arn) {
            return Err(no_function());
        }
        if asked.is_empty() {
            return Err(invalid("You must specify at least one of error handling or destination setting."));
        }
        let on_success = self.destination(&arn, &asked, true)?;
        let on_failure = self.destination(&arn, &asked, false)?;
        let _turn = self.shared.configs.turn.lock().await;
        let before = match self.shared.configs.find(&arn) {
            Some(before) if merge => (*before).clone(),
            None if merge => return Err(no_config(&arn)),
            _ => Config::default(),
        };
        let number = |asked: Option<i64>| asked.and_then(|asked| u32::try_from(asked).ok());
        let since = self.shared.ports.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let config = Config {
            retries: number(asked.retries).or(before.retries),
            age_max_s: number(asked.age_max_s).or(before.age_max_s),
            on_success: if asked.on_success.is_some() { on_success } else { before.on_success },
            on_failure: if asked.on_failure.is_some() { on_failure } else { before.on_failure },
            last_modified: since.as_millis() as f64 / 1000.0,
        };
        let answer = shown(&arn, &config);
        self.shared.configs.put(&arn, config).await.map_err(not_stored)?;
        Ok(answer)
    }
}

/// What a request wants a configuration to say.
struct Asked {
    retries: Option<i64>,
    age_max_s: Option<i64>,
    /// Whether there was such a member at all, and maybe an empty one.
    destinations: bool,
    on_success: Option<String>,
    on_failure: Option<String>,
}

impl Asked {
    fn of(retries: Option<i64>, age_max_s: Option<i64>, destinations: Option<DestinationConfig>) -> Self {
        let given = destinations.is_some();
        let DestinationConfig { on_success, on_failure } = destinations.unwrap_or_default();
        Asked {
            retries,
            age_max_s,
            destinations: given,
            on_success: on_success.and_then(|on| on.destination),
            on_failure: on_failure.and_then(|on| on.destination),
        }
    }

    fn is_empty(&self) -> bool {
        self.retries.is_none() && self.age_max_s.is_none() && !self.destinations
    }

    /// As AWS's texts print it.
    fn said(&self) -> String {
        let part = |name: &str, destination: &Option<String>| match destination {
            Some(arn) => format!("{name}(destination={arn})"),
            None => "null".to_owned(),
        };
        let (success, failure) = (part("OnSuccess", &self.on_success), part("OnFailure", &self.on_failure));
        format!("DestinationConfig(onSuccess={success}, onFailure={failure})")
    }
}

#[async_trait]
impl EventInvokeConfigsApi for Events {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_function_event_invoke_config(
        &self,
        cx: &Context,
        input: PutFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Error> {
        let asked =
            Asked::of(input.maximum_retry_attempts, input.maximum_event_age_in_seconds, input.destination_config);
        self.write(cx, (input.function_name.as_deref(), input.qualifier.as_deref()), asked, false).await
    }

    async fn update_function_event_invoke_config(
        &self,
        cx: &Context,
        input: UpdateFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Error> {
        let asked =
            Asked::of(input.maximum_retry_attempts, input.maximum_event_age_in_seconds, input.destination_config);
        self.write(cx, (input.function_name.as_deref(), input.qualifier.as_deref()), asked, true).await
    }

    async fn get_function_event_invoke_config(
        &self,
        cx: &Context,
        input: GetFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let config = self.shared.configs.find(&arn).ok_or_else(|| no_config(&arn))?;
        Ok(shown(&arn, &config))
    }

    async fn delete_function_event_invoke_config(
        &self,
        cx: &Context,
        input: DeleteFunctionEventInvokeConfigRequest,
    ) -> Result<Nothing, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let configs = &self.shared.configs;
        let _turn = configs.turn.lock().await;
        if configs.find(&arn).is_none() {
            return Err(no_config(&arn));
        }
        let delete = Write::Delete { key: key(&arn), expect: Expect::Anything };
        configs.records.commit(vec![delete]).await.map_err(not_stored)?;
        configs.all.remove(&arn);
        Ok(Nothing {})
    }

    async fn list_function_event_invoke_configs(
        &self,
        cx: &Context,
        input: ListFunctionEventInvokeConfigsRequest,
    ) -> Result<ListFunctionEventInvokeConfigsResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), None)?;
        if !self.exists(&latest(&arn)) {
            return Err(no_function());
        }
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        let all = self.shared.configs.of_function(&arn).into_iter();
        let rest = all.filter(|(arn, _)| page.after.as_deref().is_none_or(|after| qualifier(arn) > after));
        let (configs, next_marker) = page.take(rest, |(arn, _)| qualifier(arn).to_owned());
        let configs = configs.into_iter().map(|(arn, config)| shown(&arn, &config)).collect();
        Ok(ListFunctionEventInvokeConfigsResponse { function_event_invoke_configs: Some(configs), next_marker })
    }
}

fn shown(arn: &FunctionArn, config: &Config) -> FunctionEventInvokeConfig {
    FunctionEventInvokeConfig {
        last_modified: Some(config.last_modified),
        function_arn: Some(arn.to_string()),
        maximum_retry_attempts: config.retries.map(i64::from),
        maximum_event_age_in_seconds: config.age_max_s.map(i64::from),
        destination_config: Some(DestinationConfig {
            on_success: Some(OnSuccess { destination: config.on_success.clone() }),
            on_failure: Some(OnFailure { destination: config.on_failure.clone() }),
        }),
    }
}

fn latest(arn: &FunctionArn) -> FunctionArn {
    arn.qualified(Qualifier::new(Qualifier::LATEST))
}

fn qualifier(arn: &FunctionArn) -> &str {
    arn.qualifier.as_ref().map_or(Qualifier::LATEST, Qualifier::as_str)
}

fn key(arn: &FunctionArn) -> Key {
    Key { partition: partition(arn), kind: KIND, id: format!("{}/{}", arn.name, qualifier(arn)) }
}

/// Of a key, back.
fn address(partition: &str, id: &str) -> Option<FunctionArn> {
    let (account, region) = partition.split_once('/')?;
    let (name, qualifier) = id.split_once('/')?;
    Some(FunctionArn {
        account: AccountId::parse(account)?,
        region: Region::parse(region)?,
        name: FunctionName::parse(name)?,
        qualifier: Some(Qualifier::new(qualifier)),
    })
}

fn no_function() -> Error {
    not_found("The function doesn't exist.")
}

fn no_config(arn: &FunctionArn) -> Error {
    not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
}

fn not_stored(error: RecordsError) -> Error {
    tracing::error!(%error, "an event-invoke configuration could not be written");
    service_exception("The change could not be stored; Hearth's log says more.")
}

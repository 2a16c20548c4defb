//! Function URLs: the handlers of the group `function_urls` (spec 1.11, 7.1), and what the data plane asks of them.
//!
//! - `id`: how a URL is named; `allowed`: who may call it

mod allowed;
mod id;

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::{FunctionArn, Qualifier};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::FunctionUrlsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_conflict_exception as conflict,
    resource_not_found_exception as not_found, service_exception,
};
use hearth_wire_lambda::types::*;

use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::names;
use crate::record::{InvokeMode, Owner, UrlAuth, UrlRecord};
use crate::state::function::{Changes, Function};
use hearth_wire_lambda::page::{MOST, Page};

pub use allowed::{INVOKE_URL, NotLet};
pub use id::was_given;

/// A URL as the data plane sees it.
#[derive(Clone)]
pub struct FunctionUrl {
    /// With the alias, where it is an alias's.
    pub arn: FunctionArn,
    record: Arc<UrlRecord>,
    function: Arc<Function>,
}

impl FunctionUrl {
    pub fn id(&self) -> &str {
        &self.record.id
    }

    pub fn auth(&self) -> UrlAuth {
        self.record.auth
    }

    pub fn mode(&self) -> InvokeMode {
        self.record.mode
    }

    pub fn cors(&self) -> Option<&Cors> {
        self.record.cors.as_ref()
    }
}

impl Control {
    /// The URL with this id, of any account and region.
    pub fn url(&self, id: &str) -> Option<FunctionUrl> {
        let (function, alias) = self.inner.state.of_url(id)?;
        let record = function.urls.get(&alias)?.clone();
        Some(FunctionUrl { arn: qualified(&function, &alias), record, function })
    }

    fn now_exactly(&self) -> String {
        jiff::Timestamp::try_from(self.inner.ports.clock.wall()).map(|now| format!("{now:.6}")).unwrap_or_default()
    }

    /// Puts a URL, or with `None` takes it away; the caller holds the turn.
    async fn set_url(&self, function: &Arc<Function>, alias: &str, url: Option<UrlRecord>) -> Result<(), Error> {
        let changes = Changes { urls: [(alias.to_owned(), url)].into(), ..function.changes() };
        self.commit(function, changes).await.map(drop)
    }
}

/// A configuration as an answer of this shape, which has the same members.
macro_rules! whole {
    ($answer:ident, $config:expr) => {{
        let config = $config;
        $answer {
            function_url: config.function_url,
            function_arn: config.function_arn,
            creation_time: config.creation_time,
            last_modified_time: config.last_modified_time,
            cors: config.cors,
            auth_type: config.auth_type,
            invoke_mode: config.invoke_mode,
        }
    }};
}

#[async_trait]
impl FunctionUrlsApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_function_url_config(
        &self,
        cx: &Context,
        input: CreateFunctionUrlConfigRequest,
    ) -> Result<CreateFunctionUrlConfigResponse, Error> {
        let (arn, alias) = named(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let id = id::new().map_err(|error| service_exception(format!("There are no random numbers: {error}")))?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_function)?;
        if !alias.is_empty() && !function.aliases.contains_key(&alias) {
            return Err(no_function());
        }
        // No request says whom it is for.
        if function.record.intent.is_per_tenant() {
            return Err(invalid("Function URLs are not supported for functions with tenancy configuration."));
        }
        if function.urls.contains_key(&alias) {
            // Both spaces are AWS's.
            return Err(conflict(format!(
                "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for \
                 this Lambda function",
                qualified(&function, &alias)
            )));
        }
        let created = self.now_exactly();
        let record = UrlRecord {
            id,
            auth: UrlAuth::of(&input.auth_type.unwrap_or_default()),
            cors: said(input.cors),
            mode: InvokeMode::of(input.invoke_mode.as_deref().unwrap_or_default()),
            last_modified: created.clone(),
            created,
        };
        let answer = CreateFunctionUrlConfigResponse {
            // Answered only to who gave it (recorded).
            invoke_mode: input.invoke_mode,
            ..created_as(presented(cx, &function, &alias, &record))
        };
        self.set_url(&function, &alias, Some(record)).await?;
        Ok(answer)
    }

    async fn get_function_url_config(
        &self,
        cx: &Context,
        input: GetFunctionUrlConfigRequest,
    ) -> Result<GetFunctionUrlConfigResponse, Error> {
        let (arn, alias) = named(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_url)?;
        let record = function.urls.get(&alias).ok_or_else(no_url)?;
        Ok(whole!(GetFunctionUrlConfigResponse, presented(cx, &function, &alias, record)))
    }

    async fn update_function_url_config(
        &self,
        cx: &Context,
        input: UpdateFunctionUrlConfigRequest,
    ) -> Result<UpdateFunctionUrlConfigResponse, Error> {
        let (arn, alias) = named(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_function)?;
        let mut record = UrlRecord::clone(function.urls.get(&alias).ok_or_else(no_url)?);
        if let Some(auth) = &input.auth_type {
            record.auth = UrlAuth::of(auth);
        }
        if let Some(mode) = &input.invoke_mode {
            record.mode = InvokeMode::of(mode);
        }
        if input.cors.is_some() {
            record.cors = said(input.cors);
        }
        record.last_modified = self.now_exactly();
        let answer = whole!(UpdateFunctionUrlConfigResponse, presented(cx, &function, &alias, &record));
        self.set_url(&function, &alias, Some(record)).await?;
        Ok(answer)
    }

    async fn delete_function_url_config(
        &self,
        cx: &Context,
        input: DeleteFunctionUrlConfigRequest,
    ) -> Result<Nothing, Error> {
        let (arn, alias) = named(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_url)?;
        if !function.urls.contains_key(&alias) {
            return Err(no_url());
        }
        self.set_url(&function, &alias, None).await?;
        Ok(Nothing {})
    }

    async fn list_function_url_configs(
        &self,
        cx: &Context,
        input: ListFunctionUrlConfigsRequest,
    ) -> Result<ListFunctionUrlConfigsResponse, Error> {
        let arn = names::function(cx, input.function_name.as_deref(), None)?;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_function)?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        // The function's own has an empty name, and a marker must not be empty.
        let after = page.after.as_deref().map(|after| after.strip_prefix('/').unwrap_or(after).to_owned());
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (urls, next_marker) =
            page.take(function.urls.range((from, Bound::Unbounded)), |(alias, _)| format!("/{alias}"));
        let urls = urls.into_iter().map(|(alias, record)| presented(cx, &function, alias, record)).collect();
        Ok(ListFunctionUrlConfigsResponse { function_url_configs: Some(urls), next_marker })
    }
}

/// The function, and the alias or the empty text.
fn named(cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<(FunctionArn, String), Error> {
    let arn = names::function(cx, name, qualifier)?;
    let alias = arn.qualifier.as_ref().map(Qualifier::to_string).unwrap_or_default();
    Ok((arn.unqualified(), alias))
}

fn qualified(function: &Function, alias: &str) -> FunctionArn {
    if alias.is_empty() { function.arn() } else { function.qualified(alias) }
}

/// Rules, where any were given.
fn said(cors: Option<Cors>) -> Option<Cors> {
    cors.filter(|cors| {
        let Cors { allow_credentials, allow_headers, allow_methods, allow_origins, expose_headers, max_age } = cors;
        let lists = [allow_headers, allow_methods, allow_origins, expose_headers];
        allow_credentials.is_some() || max_age.is_some() || lists.iter().any(|list| list.is_some())
    })
}

fn presented(cx: &Context, function: &Function, alias: &str, record: &UrlRecord) -> FunctionUrlConfig {
    FunctionUrlConfig {
        function_url: Some(id::url(&record.id, &function.owner.region, &cx.origin)),
        function_arn: Some(qualified(function, alias).to_string()),
        creation_time: Some(record.created.clone()),
        last_modified_time: Some(record.last_modified.clone()),
        cors: record.cors.clone(),
        auth_type: Some(record.auth.as_str().to_owned()),
        invoke_mode: Some(record.mode.as_str().to_owned()),
    }
}

fn created_as(config: FunctionUrlConfig) -> CreateFunctionUrlConfigResponse {
    let FunctionUrlConfig { function_url, function_arn, creation_time, cors, auth_type, .. } = config;
    CreateFunctionUrlConfigResponse { function_url, function_arn, auth_type, cors, creation_time, invoke_mode: None }
}

fn no_function() -> Error {
    not_found("Function does not exist")
}

fn no_url() -> Error {
    not_found("The resource you requested does not exist.")
}

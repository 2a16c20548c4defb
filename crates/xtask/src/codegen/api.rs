//! One trait a group, and the dispatch.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Generator, HEAD, Protocol, pascal, snake};

const OF_QUERY: &str = "use hearth_wire::query::{self, Form, decode, encode};
use hearth_wire::{Context, Coverage, Error, Reply};

use super::operations::{NAMESPACE, OPERATIONS, Operation, REFUSED, VERSION};
";

const OF_AWS_JSON: &str = "use hearth_wire::aws_json::{self, decode, encode};
use hearth_wire::{Context, Coverage, Error, Reply};

use super::operations::{OPERATIONS, Operation, REFUSED};
";

const OF_REST_JSON: &str = "use hearth_wire::rest_json::{Nothing, Parts, decode, encode};
use hearth_wire::{Context, Coverage, Error, Reply};

use super::operations::{OPERATIONS, Operation};
";

const CALL_BY_QUERY: &str = "/// Answers in the protocol, whatever comes of it.
pub async fn answer(&self, cx: &Context, form: &Form) -> Reply {
    self.call(cx, form).await.unwrap_or_else(|error| query::error(&error, NAMESPACE, &cx.request_id))
}

/// Decodes, calls and encodes. What is not built refuses by name before anything is read.
async fn call(&self, cx: &Context, form: &Form) -> Result<Reply, Error> {
    let action = form.action()?;
    let Some(info) = OPERATIONS.iter().find(|info| info.name == action) else {
        return Err(query::unknown(SERVICE, action, &REFUSED, VERSION));
    };
    let refused = || Error::not_supported(format_args!(\"{SERVICE}:{}\", info.name));
    if self.coverage(info.operation).is_none() { return Err(refused()); }
    let Some(shape) = info.input else { return Err(refused()); };
    match info.operation {
";

const CALL_BY_AWS_JSON: &str =
    "/// Answers in the protocol, whatever comes of it. `name` is the operation that `X-Amz-Target` names.
pub async fn answer(&self, cx: &Context, name: &str, body: &[u8]) -> Reply {
    self.call(cx, name, body).await.unwrap_or_else(|error| error.aws_json(aws_json::CONTENT_TYPE))
}

/// Decodes, calls and encodes. What is not built refuses by name before anything is read.
async fn call(&self, cx: &Context, name: &str, body: &[u8]) -> Result<Reply, Error> {
    let Some(info) = OPERATIONS.iter().find(|info| info.name == name) else {
        return Err(aws_json::unknown(SERVICE, name, &REFUSED));
    };
    let refused = || Error::not_supported(format_args!(\"{SERVICE}:{}\", info.name));
    if self.coverage(info.operation).is_none() { return Err(refused()); }
    let Some(shape) = info.input else { return Err(refused()); };
    match info.operation {
";

const CALL_BY_AWS_JSON_AND_QUERY: &str =
    "/// Decodes, calls and encodes. `name` is the operation's. What is not built refuses by name before anything is read.
pub(crate) async fn call(&self, cx: &Context, name: &str, body: &[u8]) -> Result<Reply, Error> {
    let Some(info) = OPERATIONS.iter().find(|info| info.name == name) else {
        return Err(aws_json::unknown(SERVICE, name, &REFUSED));
    };
    let refused = || Error::not_supported(format_args!(\"{SERVICE}:{}\", info.name));
    if self.coverage(info.operation).is_none() { return Err(refused()); }
    let Some(shape) = info.input else { return Err(refused()); };
    match info.operation {
";

const CALL_BY_REST_JSON: &str =
    "/// Decodes, calls and encodes. What is not built refuses by name before anything is read.
pub async fn call(&self, cx: &Context, operation: Operation, parts: Parts<'_>) -> Result<Reply, Error> {
    let info = &OPERATIONS[operation as usize];
    let refused = || Error::not_supported(format_args!(\"SERVICE:{}\", info.name));
    if self.coverage(operation).is_none() { return Err(refused()); }
    let Some(shape) = info.input else { return Err(refused()); };
    match operation {
";

impl Generator {
    pub fn api(&self) -> Result<String> {
        let service = self.service.name;
        let imports = match self.service.protocol {
            Protocol::Query => OF_QUERY,
            Protocol::AwsJson { .. } | Protocol::AwsJsonAndQuery { .. } => OF_AWS_JSON,
            Protocol::RestJson => OF_REST_JSON,
        };
        let mut text =
            format!("{HEAD}use std::sync::Arc;\n\nuse async_trait::async_trait;\n{imports}use super::types::*;\n\n");
        if !self.is_rest() {
            writeln!(text, "const SERVICE: &str = {service:?};")?;
        }
        if let Protocol::AwsJson { invalid } | Protocol::AwsJsonAndQuery { invalid } = self.service.protocol {
            writeln!(text, "/// The code of what breaks a constraint.\nconst INVALID: &str = {invalid:?};")?;
        }
        text.push('\n');
        for (group, names) in self.service.groups {
            writeln!(
                text,
                "/// Operations of the group `{group}`.\n#[async_trait]\npub trait {}Api: Send + Sync + 'static {{",
                pascal(group)
            )?;
            writeln!(
                text,
                "/// The operations that this implementation has.\nfn coverage(&self) -> &'static [Coverage];\n"
            )?;
            for name in *names {
                let (input, output) = self.signature(name)?;
                writeln!(
                    text,
                    "async fn {}(&self, _cx: &Context, _input: {input}) -> Result<{output}, Error> {{ Err(Error::not_supported(\"{service}:{name}\")) }}\n",
                    snake(name),
                )?;
            }
            text.push_str("}\n\n");
        }
        text.push_str("/// The service: an implementation for each group, where there is one.\n#[derive(Clone, Default)]\npub struct Service {\n");
        for (group, _) in self.service.groups {
            writeln!(text, "pub {group}: Option<Arc<dyn {}Api>>,", pascal(group))?;
        }
        text.push_str("}\n\nimpl Service {\n/// What an operation's group says of it; `None` when it is not built.\npub fn coverage(&self, operation: Operation) -> Option<&'static Coverage> {\nlet info = &OPERATIONS[operation as usize];\nlet coverage = match info.group {\n");
        for (group, _) in self.service.groups {
            writeln!(text, "{group:?} => self.{group}.as_ref()?.coverage(),")?;
        }
        text.push_str("_ => return None,\n};\ncoverage.iter().find(|coverage| coverage.operation == info.name)\n}\n\n");
        self.call(&mut text)?;
        // Some services answer everything with a structure.
        let answers_nothing = text.matches("Nothing").count() > 1;
        Ok(if answers_nothing || !self.is_rest() { text } else { text.replacen("{Nothing, ", "{", 1) })
    }

    fn call(&self, text: &mut String) -> Result<()> {
        match self.service.protocol {
            Protocol::Query => text.push_str(CALL_BY_QUERY),
            Protocol::AwsJson { .. } => text.push_str(CALL_BY_AWS_JSON),
            Protocol::AwsJsonAndQuery { .. } => text.push_str(CALL_BY_AWS_JSON_AND_QUERY),
            Protocol::RestJson => text.push_str(&CALL_BY_REST_JSON.replace("SERVICE", self.service.name)),
        }
        for (group, names) in self.service.groups {
            for name in *names {
                let (input, output) = self.signature(name)?;
                let called = format!("api.{}(cx, input).await?", snake(name));
                let (from, answer) = match (self.service.protocol, output.as_str()) {
                    (Protocol::Query, "()") => {
                        ("form, cx", format!("{called};\nOk(query::acknowledge(info.name, NAMESPACE, &cx.request_id))"))
                    }
                    (Protocol::Query, _) => {
                        ("form, cx", format!("Ok(encode(info.name, NAMESPACE, &{called}, &cx.request_id))"))
                    }
                    (Protocol::AwsJson { .. } | Protocol::AwsJsonAndQuery { .. }, "()") => {
                        ("body, INVALID, cx", format!("{called};\nOk(aws_json::acknowledge())"))
                    }
                    (Protocol::AwsJson { .. }, output) if self.stream_of(self.shape(output)?)?.is_some() => {
                        ("body, INVALID, cx", format!("Ok(aws_json::stream({called}))"))
                    }
                    (Protocol::AwsJson { .. } | Protocol::AwsJsonAndQuery { .. }, _) => {
                        ("body, INVALID, cx", format!("Ok(encode(&{called}))"))
                    }
                    (Protocol::RestJson, _) => ("parts, cx", format!("Ok(encode({called}, info.status))")),
                };
                writeln!(
                    text,
                    "Operation::{name} => {{\nlet api = self.{group}.as_ref().ok_or_else(refused)?;\nlet input: {input} = decode(shape, {from})?;\n{answer}\n}}"
                )?;
            }
        }
        text.push_str("}\n}\n}\n");
        Ok(())
    }

    fn signature(&self, name: &str) -> Result<(String, String)> {
        let operation = &self.model.operations[name];
        let input = operation.input.as_ref().map(|input| input.shape.clone()).context("an operation has no input")?;
        let nothing = if self.is_rest() { "Nothing" } else { "()" };
        let output = operation.output.as_ref().map_or(nothing.to_owned(), |output| output.shape.clone());
        Ok((input, output))
    }
}

//! The table of operations, and constructors of errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;

use crate::model::Shape;

use super::{Generator, HEAD, Protocol, screaming, snake};

impl Generator {
    /// The enumeration of operations and their table.
    pub fn operations(&self) -> Result<String> {
        let groups: BTreeMap<&str, &str> = self
            .service
            .groups
            .iter()
            .flat_map(|(group, names)| names.iter().map(move |name| (*name, *group)))
            .collect();
        let (import, members) = if self.is_rest() {
            ("use hearth_wire::route::Template;\n", "pub template: Template,\n/// Of success.\npub status: u16,\n")
        } else {
            ("", "")
        };
        let mut text = format!("{HEAD}use hearth_wire::Shape;\n{import}\nuse super::shapes;\n\n");
        let every =
            if self.service.whole { "Every operation of the service." } else { "Operations that are generated." };
        writeln!(text, "/// {every}\n#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\npub enum Operation {{")?;
        for name in self.model.operations.keys() {
            writeln!(text, "{name},")?;
        }
        write!(
            text,
            "}}\n\n/// What the model says of an operation.\n#[derive(Debug)]\npub struct Info {{\npub operation: Operation,\n\
             pub name: &'static str,\npub group: &'static str,\n{members}pub input: Option<&'static Shape>,\n}}\n\n"
        )?;
        writeln!(
            text,
            "/// By the order of [`Operation`].\npub static OPERATIONS: [Info; {}] = [",
            self.model.operations.len()
        )?;
        for (name, operation) in &self.model.operations {
            let http = &operation.http;
            let input = match &operation.input {
                Some(input) => format!("Some(&shapes::{})", screaming(&input.shape)),
                None => "None".to_owned(),
            };
            let members = if self.is_rest() {
                let (method, uri, status) = (&http.method, &http.request_uri, http.response_code.unwrap_or(200));
                format!("template: Template {{ method: {method:?}, uri: {uri:?} }}, status: {status}, ")
            } else {
                String::new()
            };
            let group = groups[name.as_str()];
            writeln!(
                text,
                "Info {{ operation: Operation::{name}, name: {name:?}, group: {group:?}, {members}input: {input} }},"
            )?;
        }
        text.push_str("];\n");
        let metadata = &self.model.metadata;
        if !self.is_rest() {
            write!(
                text,
                "\n/// Operations of the service that refuse by name.\npub static REFUSED: [&str; {}] = {:?};\n\n",
                self.refused.len(),
                self.refused
            )?;
        }
        match self.service.protocol {
            Protocol::RestJson => {}
            Protocol::Query => writeln!(
                text,
                "pub const VERSION: &str = {:?};\npub const NAMESPACE: &str = {:?};",
                metadata.api_version, metadata.xml_namespace
            )?,
            Protocol::AwsJson { .. } | Protocol::AwsJsonAndQuery { .. } => writeln!(
                text,
                "/// What `X-Amz-Target` says before the operation's name.\npub const TARGET: &str = {:?};",
                metadata.target_prefix
            )?,
        }
        Ok(text)
    }

    /// Of an error whose model says none.
    fn status(&self, shape: &Shape) -> u16 {
        if self.is_rest() || shape.fault { 500 } else { 400 }
    }

    /// A constructor for each modelled error that can occur.
    pub fn errors(&self) -> Result<String> {
        let named: BTreeSet<&str> =
            self.model.operations.values().flat_map(|operation| &operation.errors).map(|e| e.shape.as_str()).collect();
        let mut text = format!("{HEAD}use hearth_wire::{{Error, MessageKey}};\n\n");
        for (name, shape) in self.model.shapes.iter().filter(|(_, shape)| shape.exception) {
            if !self.service.whole && !named.contains(name.as_str()) {
                continue;
            }
            let status = shape.error.as_ref().map_or(self.status(shape), |error| error.http_status_code);
            let code = shape.error.as_ref().and_then(|error| error.code.as_ref()).unwrap_or(name);
            let key = if shape.members.contains_key("Message") { "Upper" } else { "Lower" };
            writeln!(
                text,
                "pub fn {}(message: impl Into<String>) -> Error {{ Error::modelled({status}, {code:?}, MessageKey::{key}, message) }}\n",
                snake(name)
            )?;
        }
        Ok(text)
    }
}

//! Structures.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::{Generator, HEAD, snake};
use crate::model::{Reference, Shape};

impl Generator {
    pub fn types(&self) -> Result<String> {
        let structures = if self.is_rest() { self.structures()? } else { self.plain_structures()? };
        let used = |what: &str, line: &'static str| if structures.contains(what) { line } else { "" };
        Ok([
            HEAD,
            used("BTreeMap<", "use std::collections::BTreeMap;\n\n"),
            used(": Bytes", "use bytes::Bytes;\n"),
            used("Blob>", "use hearth_wire::Blob;\n"),
            used("Timestamp>", "use hearth_wire::Timestamp;\n"),
            used("EventStream<", "use hearth_wire::event_stream::{self, EventStream};\n"),
            used("impl Streams", "use hearth_wire::aws_json::Streams;\n"),
            used("impl Input", "use hearth_wire::rest_json::{Input, Output};\n"),
            "\n",
            &structures,
        ]
        .concat())
    }

    /// What is asked is only read, what is answered is only written.
    fn plain_structures(&self) -> Result<String> {
        let mut text = String::new();
        let (inputs, outputs) = (self.reached(self.inputs())?, self.reached(self.outputs())?);
        for name in inputs.union(&outputs) {
            let shape = self.shape(name)?;
            if shape.kind != "structure" {
                continue;
            }
            if shape.eventstream {
                self.events(&mut text, name, shape)?;
                continue;
            }
            let stream = self.stream_of(shape)?;
            let clone = if stream.is_some() { "" } else { "Clone, " };
            let read = if inputs.contains(name) { ", serde::Deserialize" } else { "" };
            let written = if outputs.contains(name) { ", serde::Serialize" } else { "" };
            writeln!(text, "#[derive({clone}Default{read}{written})]\npub struct {name} {{")?;
            for (member, reference) in shape.members()? {
                if stream.as_deref() == Some(member) {
                    writeln!(text, "#[serde(skip)]\npub {}: EventStream<{}>,", snake(member), reference.shape)?;
                    continue;
                }
                if reference.location_name.is_some() {
                    bail!("{name}.{member} has a name of its own, which is known of REST alone");
                }
                let skip = if written.is_empty() { "" } else { ", skip_serializing_if = \"Option::is_none\"" };
                let default = if read.is_empty() { "" } else { ", default" };
                let kind = self.rust_type(&reference)?;
                let field = snake(member);
                writeln!(text, "#[serde(rename = {member:?}{default}{skip})]\npub {field}: Option<{kind}>,")?;
            }
            writeln!(text, "}}\n")?;
            if let Some(member) = stream {
                let taken = format!("std::mem::take(&mut self.{})", snake(&member));
                let frames = format!("fn frames(&mut self) -> Option<event_stream::Frames> {{ {taken}.frames() }}");
                writeln!(text, "impl Streams for {name} {{\n{frames}\n}}\n")?;
            }
        }
        Ok(text)
    }

    /// The member that is a stream of events.
    pub fn stream_of(&self, shape: &Shape) -> Result<Option<String>> {
        let streams = |reference: &Reference| self.shape(&reference.shape).is_ok_and(|shape| shape.eventstream);
        Ok(shape.members()?.into_iter().find(|(_, of)| streams(of)).map(|(member, _)| member.to_owned()))
    }

    fn structures(&self) -> Result<String> {
        let mut text = String::new();
        let inputs: BTreeSet<&str> = self.inputs().map(|reference| reference.shape.as_str()).collect();
        let outputs: BTreeSet<&str> = self.outputs().map(|reference| reference.shape.as_str()).collect();
        for name in self.reached(self.inputs().chain(self.outputs()))? {
            let shape = self.shape(name)?;
            if shape.kind != "structure" {
                continue;
            }
            if shape.eventstream {
                self.events(&mut text, name, shape)?;
                continue;
            }
            // Who has a stream is only written, and once.
            let (clone, read) =
                if self.stream_of(shape)?.is_some() { ("", "") } else { ("Clone, ", ", serde::Deserialize") };
            writeln!(text, "#[derive({clone}Default, serde::Serialize{read})]\npub struct {name} {{")?;
            for (member, reference) in shape.members()? {
                let of_member = self.shape(&reference.shape)?;
                if of_member.eventstream {
                    writeln!(text, "#[serde(skip)]\npub {}: EventStream<{}>,", snake(member), reference.shape)?;
                    continue;
                }
                if reference.eventpayload {
                    writeln!(text, "#[serde(skip)]\npub {}: Bytes,", snake(member))?;
                    continue;
                }
                if shape.payload.as_deref() == Some(member) {
                    writeln!(
                        text,
                        "#[serde(skip)]\npub {}: {},",
                        snake(member),
                        self.payload_type(of_member, &reference)?
                    )?;
                    continue;
                }
                let skip = match reference.location.as_deref() {
                    Some("header" | "statusCode") if outputs.contains(name) => ", skip_serializing",
                    _ => ", skip_serializing_if = \"Option::is_none\"",
                };
                let kind = self.rust_type(&reference)?;
                writeln!(text, "#[serde(rename = {member:?}, default{skip})]\npub {}: Option<{kind}>,", snake(member))?;
            }
            writeln!(text, "}}\n")?;
            if inputs.contains(name) {
                self.input(&mut text, name, shape)?;
            }
            if outputs.contains(name) {
                self.output(&mut text, name, shape)?;
            }
        }
        Ok(text)
    }

    /// The kinds of events of a stream.
    fn events(&self, text: &mut String, name: &str, shape: &Shape) -> Result<()> {
        let (mut kinds, mut encoded) = (String::new(), String::new());
        for (kind, reference) in shape.members()? {
            let variant = upper(kind);
            writeln!(kinds, "{variant}({}),", reference.shape)?;
            let of_kind = self.shape(&reference.shape)?;
            let encoding = if of_kind.exception { "exception" } else { "json" };
            let members = of_kind.members()?;
            let payload = members.iter().find(|(_, reference)| reference.eventpayload);
            match payload {
                Some((member, _)) => writeln!(
                    encoded,
                    "{name}::{variant}(event) => event_stream::Event::blob({kind:?}, event.{}),",
                    snake(member)
                )?,
                None => {
                    writeln!(encoded, "{name}::{variant}(event) => event_stream::Event::{encoding}({kind:?}, &event),")?
                }
            }
        }
        writeln!(
            text,
            "pub enum {name} {{\n{kinds}}}\n\nimpl From<{name}> for event_stream::Event {{\nfn from(event: {name}) -> Self {{ match event {{\n{encoded}}} }}\n}}\n"
        )?;
        Ok(())
    }

    fn payload_type(&self, shape: &Shape, reference: &Reference) -> Result<String> {
        Ok(if shape.kind == "blob" { "Bytes".to_owned() } else { format!("Option<{}>", self.rust_type(reference)?) })
    }

    fn input(&self, text: &mut String, name: &str, shape: &Shape) -> Result<()> {
        let Some(payload) = &shape.payload else {
            return Ok(writeln!(text, "impl Input for {name} {{}}\n")?);
        };
        let reference = shape.members()?.into_iter().find(|(member, _)| member == payload).map(|(_, r)| r);
        let of_payload = self.shape(&reference.context("payload")?.shape)?;
        let value = if of_payload.kind == "blob" { "payload" } else { "serde_json::from_slice(&payload).ok()" };
        writeln!(
            text,
            "impl Input for {name} {{\nfn set_payload(&mut self, payload: Bytes) {{ self.{} = {value}; }}\n}}\n",
            snake(payload)
        )?;
        Ok(())
    }

    fn output(&self, text: &mut String, name: &str, shape: &Shape) -> Result<()> {
        writeln!(text, "impl Output for {name} {{")?;
        let mut headers = String::new();
        for (member, reference) in shape.members()? {
            let field = snake(member);
            match reference.location.as_deref() {
                Some("header") => {
                    let header = reference.location_name.clone().unwrap_or_default().to_lowercase();
                    write!(
                        headers,
                        "if let Some(value) = &self.{field} {{ headers.push(({header:?}, value.clone())); }}"
                    )?;
                }
                Some("statusCode") => writeln!(
                    text,
                    "fn status(&self) -> Option<u16> {{ self.{field}.and_then(|status| u16::try_from(status).ok()) }}"
                )?,
                _ => {}
            }
        }
        if !headers.is_empty() {
            writeln!(
                text,
                "fn headers(&self) -> Vec<(&'static str, String)> {{ let mut headers = Vec::new(); {headers} headers }}"
            )?;
        }
        if let Some(payload) = &shape.payload {
            let member = shape.members()?.into_iter().find(|(member, _)| member == payload);
            let taken = format!("std::mem::take(&mut self.{})", snake(payload));
            match self.shape(&member.context("payload")?.1.shape)?.eventstream {
                true => writeln!(text, "fn frames(&mut self) -> Option<event_stream::Frames> {{ {taken}.frames() }}")?,
                false => writeln!(text, "fn payload(&mut self) -> Option<Bytes> {{ Some({taken}) }}")?,
            }
        }
        writeln!(text, "}}\n")?;
        Ok(())
    }

    fn rust_type(&self, reference: &Reference) -> Result<String> {
        let shape = self.shape(&reference.shape)?;
        let inner = |reference: &Option<Reference>| self.rust_type(reference.as_ref().context("no member")?);
        Ok(match shape.kind.as_str() {
            "structure" => reference.shape.clone(),
            "list" => format!("Vec<{}>", inner(&shape.member)?),
            "map" => format!("BTreeMap<String, {}>", inner(&shape.value)?),
            "string" => "String".to_owned(),
            "integer" | "long" => "i64".to_owned(),
            "timestamp" if self.is_query() => "Timestamp".to_owned(),
            "double" | "float" | "timestamp" => "f64".to_owned(),
            "boolean" => "bool".to_owned(),
            "blob" => "Blob".to_owned(),
            other => bail!("shapes of type {other} are not known"),
        })
    }
}

/// As a variant is spelled: some services begin the names of events with a small letter.
fn upper(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}

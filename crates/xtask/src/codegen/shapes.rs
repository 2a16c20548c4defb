//! Constraint tables.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::{Generator, HEAD, screaming};
use crate::model::{Reference, Shape};

/// Enumerations that handlers check themselves, because the service words it differently.
const CHECKED_BY_HANDLERS: &[&str] = &["Runtime"];

impl Generator {
    /// Constraint tables of everything in requests.
    pub fn shapes(&self) -> Result<String> {
        let mut text = format!("{HEAD}use hearth_wire::{{Kind, Location, Member, Shape}};\n\n");
        for name in self.reached(self.inputs())? {
            let shape = self.shape(name)?;
            if self.is_query() && matches!(shape.kind.as_str(), "map" | "blob") {
                bail!("{name} is a {}, which is not known in forms", shape.kind);
            }
            let kind = self.kind(name, shape)?;
            writeln!(text, "pub static {}: Shape = Shape {{ name: {name:?}, kind: {kind} }};\n", screaming(name))?;
        }
        Ok(text)
    }

    fn kind(&self, name: &str, shape: &Shape) -> Result<String> {
        let whole = |value: Option<f64>| format!("{:?}", value.map(|value| value as i64));
        let reference = |reference: &Option<Reference>| -> Result<String> {
            Ok(format!("&{}", screaming(&reference.as_ref().context("no member")?.shape)))
        };
        let (min, max) = (whole(shape.min), whole(shape.max));
        Ok(match shape.kind.as_str() {
            "structure" => {
                let mut members = String::new();
                for (member, of_member) in shape.members()? {
                    let location = location(shape, member, &of_member);
                    let required = shape.required.iter().any(|required| required == member);
                    let shape = screaming(&of_member.shape);
                    write!(
                        members,
                        "Member {{ name: {member:?}, location: {location}, required: {required}, shape: &{shape} }},"
                    )?;
                }
                format!("Kind::Structure {{ members: &[{members}] }}")
            }
            "list" => format!("Kind::List {{ member: {}, min: {min}, max: {max} }}", reference(&shape.member)?),
            "map" => format!(
                "Kind::Map {{ key: {}, value: {}, min: {min}, max: {max} }}",
                reference(&shape.key)?,
                reference(&shape.value)?
            ),
            "string" => {
                let values = if CHECKED_BY_HANDLERS.contains(&name) { &[][..] } else { &shape.values[..] };
                let pattern = &shape.pattern;
                format!("Kind::String {{ pattern: {pattern:?}, min: {min}, max: {max}, values: &{values:?} }}")
            }
            "integer" | "long" => format!("Kind::Integer {{ min: {min}, max: {max} }}"),
            "double" | "float" => format!("Kind::Double {{ min: {:?}, max: {:?} }}", shape.min, shape.max),
            "boolean" => "Kind::Boolean".to_owned(),
            "timestamp" => "Kind::Timestamp".to_owned(),
            "blob" => "Kind::Blob".to_owned(),
            other => bail!("shapes of type {other} are not known"),
        })
    }
}

fn location(shape: &Shape, member: &str, reference: &Reference) -> String {
    let name = reference.location_name.clone().unwrap_or_else(|| member.to_owned());
    match reference.location.as_deref() {
        Some("uri") => format!("Location::Path({name:?})"),
        Some("querystring") => format!("Location::Query({name:?})"),
        Some("header") => format!("Location::Header({:?})", name.to_lowercase()),
        _ if shape.payload.as_deref() == Some(member) => "Location::Payload".to_owned(),
        _ => "Location::Body".to_owned(),
    }
}

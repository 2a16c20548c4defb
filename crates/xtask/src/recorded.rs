//! Where answers recorded from AWS differ from the published model, and what was recorded is generated (spec 1.3).

use anyhow::{Context, Result};
use serde_json::Value;

use crate::model::Model;

/// Input structure, member, and the longest text that passes there.
const LENGTHS: &[(&str, &str, u32)] = &[
    ("DeleteFunctionRequest", "FunctionName", 140),
    ("GetFunctionRequest", "FunctionName", 170),
    ("GetFunctionConfigurationRequest", "FunctionName", 170),
    ("InvocationRequest", "FunctionName", 170),
];

/// Patterns that handlers check themselves, because the service words it differently.
const PATTERNS: &[&str] = &["roleNameType", "policyNameType"];

pub fn correct(service: &str, model: &mut Model) -> Result<()> {
    match service {
        "lambda" => lengths(model),
        "iam" => patterns(model),
        "sqs" => {
            named_by_handlers(model);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is missing and what is unknown has texts and codes of its own for each operation of SQS.
fn named_by_handlers(model: &mut Model) {
    let inputs: Vec<&String> = model.operations.values().filter_map(|o| o.input.as_ref()).map(|i| &i.shape).collect();
    for (name, shape) in &mut model.shapes {
        shape.values.clear();
        if inputs.contains(&name) || name.ends_with("RequestEntry") || name.ends_with("AttributeValue") {
            shape.required.clear();
        }
    }
}

fn patterns(model: &mut Model) -> Result<()> {
    for name in PATTERNS {
        model.shapes.get_mut(*name).context(*name)?.pattern = None;
    }
    Ok(())
}

fn lengths(model: &mut Model) -> Result<()> {
    for (structure, member, max) in LENGTHS {
        let what = || format!("{structure}.{member}");
        let reference = model.shapes.get_mut(*structure).and_then(|shape| shape.members.get_mut(*member));
        let shape = reference.and_then(|reference| reference.get_mut("shape")).with_context(what)?;
        let name = shape.as_str().with_context(what)?.to_owned();
        let shorter = format!("{name}{max}");
        *shape = Value::from(shorter.as_str());
        let original = model.shapes.get(&name).with_context(what)?;
        let corrected = crate::model::Shape { max: Some(f64::from(*max)), ..original.clone() };
        model.shapes.insert(shorter, corrected);
    }
    Ok(())
}

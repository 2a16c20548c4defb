//! What a request gives of a function's configuration, and how it becomes a definition. Creating and updating share it:
//! a creation is an update of the defaults.

use std::sync::Arc;

use hearth_model::{Architecture, CodeHash, Image, ImageOverrides, ImageProcess, Memory, Secret};
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types::{self, CreateFunctionRequest, UpdateFunctionConfigurationRequest};

use crate::check;
use crate::record::{Content, Definition, ImageContent, Kept, LayerUse, Logging, ZipContent};

const DEFAULT_TIMEOUT_S: u32 = 3;
const DEFAULT_MEMORY: Memory = Memory::mib(128);
const DEFAULT_EPHEMERAL_STORAGE: Memory = Memory::mib(512);

/// Members that are given change what is there: an update, and what only a creation has.
pub struct Parameters {
    given: UpdateFunctionConfigurationRequest,
    tenancy_config: Option<types::TenancyConfig>,
}

impl Parameters {
    pub fn of_creation(input: &mut CreateFunctionRequest) -> Self {
        let given = UpdateFunctionConfigurationRequest {
            runtime: input.runtime.take(),
            handler: input.handler.take(),
            role: input.role.take(),
            description: input.description.take(),
            timeout: input.timeout,
            memory_size: input.memory_size,
            ephemeral_storage: input.ephemeral_storage.take(),
            environment: input.environment.take(),
            logging_config: input.logging_config.take(),
            layers: input.layers.take(),
            vpc_config: input.vpc_config.take(),
            dead_letter_config: input.dead_letter_config.take(),
            kms_key_arn: input.kms_key_arn.take(),
            tracing_config: input.tracing_config.take(),
            file_system_configs: input.file_system_configs.take(),
            snap_start: input.snap_start.take(),
            image_config: input.image_config.take(),
            ..UpdateFunctionConfigurationRequest::default()
        };
        Parameters { given, tenancy_config: input.tenancy_config.take() }
    }

    pub fn of_update(given: UpdateFunctionConfigurationRequest) -> Self {
        Parameters { given, tenancy_config: None }
    }

    pub fn role(&self) -> Option<&str> {
        self.given.role.as_deref()
    }

    pub fn layers(&self) -> Option<&Vec<String>> {
        self.given.layers.as_ref()
    }

    /// Members that have no effect.
    fn kept(&self) -> Kept {
        let given = &self.given;
        Kept {
            vpc_config: given.vpc_config.clone(),
            dead_letter_config: given.dead_letter_config.clone(),
            kms_key_arn: given.kms_key_arn.clone(),
            tracing_config: given.tracing_config.clone(),
            file_system_configs: given.file_system_configs.clone(),
            snap_start: given.snap_start.clone(),
            tenancy_config: self.tenancy_config.clone(),
        }
    }

    /// The content of a zip that is not there yet.
    pub fn zip(&self) -> Result<Content, Error> {
        let (Some(runtime), Some(_)) = (&self.given.runtime, &self.given.handler) else {
            return Err(invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        };
        Ok(Content::Zip(ZipContent {
            runtime: check::runtime(runtime)?,
            runtime_version: None,
            handler: String::new(),
            code: CodeHash([0; 32]),
            code_size: 0,
            unzipped: 0,
            reference: None,
            source_kms_key_arn: None,
            layers: Vec::new(),
        }))
    }

    /// The content of an image that is not known yet.
    pub fn image() -> Content {
        let image = Image {
            uri: String::new(),
            digest: CodeHash([0; 32]),
            layers: Vec::new(),
            process: ImageProcess::default(),
        };
        Content::Image(ImageContent { image: Arc::new(image), image_overrides: ImageOverrides::default() })
    }

    /// A definition of the defaults with these members.
    pub fn define(&self, content: Content, layers: Option<Vec<LayerUse>>) -> Result<Definition, Error> {
        let defaults = Definition {
            generation: 0,
            content,
            role: String::new(),
            description: String::new(),
            timeout_s: DEFAULT_TIMEOUT_S,
            memory: DEFAULT_MEMORY,
            ephemeral_storage: DEFAULT_EPHEMERAL_STORAGE,
            architecture: Architecture::X86_64,
            environment: None,
            logging: Logging::default(),
            kept: None,
        };
        self.change(&defaults, layers)
    }

    /// Members that only one kind of content has.
    fn change_content(&self, content: &mut Content, layers: Option<Vec<LayerUse>>) -> Result<(), Error> {
        let given = &self.given;
        match content {
            Content::Zip(zip) => {
                if given.image_config.is_some() {
                    return Err(invalid(
                        "Please don't provide ImageConfig when the intended function PackageType is Zip.",
                    ));
                }
                if let Some(runtime) = &given.runtime {
                    zip.runtime = check::runtime(runtime)?;
                }
                if let Some(handler) = &given.handler {
                    zip.handler.clone_from(handler);
                }
                if let Some(layers) = layers {
                    zip.layers = layers;
                }
                Ok(())
            }
            Content::Image(content) => {
                if given.runtime.is_some() || given.handler.is_some() || layers.is_some() {
                    return Err(invalid(
                        "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.",
                    ));
                }
                if let Some(given) = &given.image_config {
                    content.image_overrides = overrides(given);
                }
                Ok(())
            }
        }
    }

    /// `old` with these members.
    pub fn change(&self, old: &Definition, layers: Option<Vec<LayerUse>>) -> Result<Definition, Error> {
        let (mut new, given) = (old.clone(), &self.given);
        self.change_content(&mut new.content, layers)?;
        if let Some(variables) = environment(given.environment.as_ref())? {
            new.environment = Some(variables);
        }
        new.logging = check::logging(&old.logging, given.logging_config.as_ref())?;
        if let Some(timeout) = given.timeout {
            new.timeout_s = check::timeout(timeout)?;
        }
        if let Some(memory) = given.memory_size {
            new.memory = check::memory(memory)?;
        }
        if let Some(size) = check::ephemeral_storage(given.ephemeral_storage.as_ref())? {
            new.ephemeral_storage = size;
        }
        let set = |member: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                member.clone_from(given);
            }
        };
        set(&mut new.role, &given.role);
        set(&mut new.description, &given.description);
        let kept = merged(old.kept.as_deref().cloned().unwrap_or_default(), self.kept());
        if let Content::Zip(zip) = &new.content {
            check::snap_start(zip.runtime, kept.snap_start.as_ref())?;
        }
        check::tenancy(&kept)?;
        new.kept = Some(Box::new(kept)).filter(|kept| **kept != Kept::default());
        Ok(new)
    }
}

/// The whole of what is replaced; an empty list or text replaces nothing.
fn overrides(given: &types::ImageConfig) -> ImageOverrides {
    let list = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    ImageOverrides {
        entry_point: list(&given.entry_point),
        command: list(&given.command),
        working_directory: given.working_directory.clone().filter(|text| !text.is_empty()),
    }
}

fn environment(given: Option<&types::Environment>) -> Result<Option<Vec<(String, Secret)>>, Error> {
    let Some(given) = given else { return Ok(None) };
    let Some(variables) = &given.variables else { return Ok(Some(Vec::new())) };
    check::environment(variables)?;
    Ok(Some(variables.iter().map(|(key, value)| (key.clone(), Secret::new(value))).collect()))
}

fn merged(old: Kept, new: Kept) -> Kept {
    Kept {
        vpc_config: new.vpc_config.or(old.vpc_config),
        // An empty target clears it.
        dead_letter_config: new
            .dead_letter_config
            .or(old.dead_letter_config)
            .filter(|dead| dead.target_arn.as_deref().is_some_and(|target| !target.is_empty())),
        kms_key_arn: new.kms_key_arn.or(old.kms_key_arn).filter(|key| !key.is_empty()),
        tracing_config: new.tracing_config.or(old.tracing_config),
        file_system_configs: new.file_system_configs.or(old.file_system_configs),
        snap_start: new.snap_start.or(old.snap_start),
        // Only at creation.
        tenancy_config: new.tenancy_config.or(old.tenancy_config),
    }
}

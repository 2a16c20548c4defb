//! Which language a package is written in, and where its handler is, by AWS's usual file names.

use hearth_model::Family;

use super::PackError;

/// A file at the top of a package, with its beginning where that matters.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub name: String,
    pub executable: bool,
    /// Source text of a candidate for the handler.
    pub text: Option<String>,
}

/// What a package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    pub family: Family,
    pub handler: String,
}

const PYTHON: [&str; 3] = ["app.py", "main.py", "index.py"];
const NODE: [&str; 9] =
    ["index.js", "index.mjs", "index.cjs", "app.js", "app.mjs", "app.cjs", "main.js", "main.mjs", "main.cjs"];
const TYPESCRIPT: [&str; 9] =
    ["index.ts", "index.mts", "index.cts", "app.ts", "app.mts", "app.cts", "main.ts", "main.mts", "main.cts"];

/// Whether a file's text is needed to infer the handler.
pub fn is_candidate(name: &str) -> bool {
    PYTHON.contains(&name)
}

/// What the files say, unless `handler` was given; then only the language is looked for.
pub fn infer(entries: &[Entry], handler: Option<&str>) -> Result<Inferred, PackError> {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if let Some(handler) = handler {
        return of_handler(entries, handler);
    }
    if let Some(bootstrap) = entries.iter().find(|entry| entry.name == "bootstrap") {
        if !bootstrap.executable {
            return Err(PackError::Unclear("bootstrap is not executable: chmod +x bootstrap".to_owned()));
        }
        return Ok(Inferred { family: Family::Provided, handler: "bootstrap".to_owned() });
    }
    let python = python_handler(entries);
    let node = NODE.iter().find(|name| has(name)).map(|name| format!("{}.handler", stem(name)));
    match (python, node) {
        (Some(python), Some(node)) => Err(PackError::Unclear(format!(
            "both {python} (Python) and {node} (Node.js) could be the handler: give --handler and --runtime"
        ))),
        (Some(handler), None) => Ok(Inferred { family: Family::Python, handler }),
        (None, Some(handler)) => Ok(Inferred { family: Family::NodeJs, handler }),
        (None, None) => Err(match TYPESCRIPT.iter().find(|name| has(name)) {
            Some(name) => typescript(name),
            None => PackError::Unclear(
                "no handler found: give --handler and --runtime, or name a file lambda_function.py, app.py, main.py, \
                 index.py, index.js, app.js, main.js (also .mjs, .cjs), or add an executable bootstrap"
                    .to_owned(),
            ),
        }),
    }
}

fn python_handler(entries: &[Entry]) -> Option<String> {
    if entries.iter().any(|entry| entry.name == "lambda_function.py") {
        return Some("lambda_function.lambda_handler".to_owned());
    }
    PYTHON.iter().find_map(|name| {
        let text = entries.iter().find(|entry| entry.name == *name)?.text.as_deref()?;
        let function = ["handler", "lambda_handler"].into_iter().find(|function| defines(text, function))?;
        Some(format!("{}.{function}", stem(name)))
    })
}

/// Whether Python source defines `function` at its top level.
fn defines(text: &str, function: &str) -> bool {
    text.lines().any(|line| {
        let rest = line.strip_prefix("async ").unwrap_or(line);
        let defined = rest.strip_prefix("def ").and_then(|rest| rest.trim_start().strip_prefix(function));
        let assigned = line.strip_prefix(function);
        defined.is_some_and(|rest| rest.trim_start().starts_with('('))
            || assigned.is_some_and(|rest| {
                let rest = rest.trim_start();
                rest.starts_with('=') && !rest.starts_with("==")
            })
    })
}

/// The language of the file that `module.function` names.
fn of_handler(entries: &[Entry], handler: &str) -> Result<Inferred, PackError> {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    let module = handler.rsplit_once('.').map_or(handler, |(module, _)| module);
    // Python accepts both `a/b.f` and `a.b.f`; only the top of the package is looked at.
    let top = module.split(['/', '.']).next().unwrap_or(module);
    let family = if [format!("{module}.py"), format!("{top}.py"), format!("{top}/__init__.py")].iter().any(|n| has(n)) {
        Family::Python
    } else if ["js", "mjs", "cjs"].iter().any(|extension| has(&format!("{module}.{extension}"))) {
        Family::NodeJs
    } else if let Some(name) =
        ["ts", "mts", "cts"].iter().map(|extension| format!("{module}.{extension}")).find(|name| has(name))
    {
        return Err(typescript(&name));
    } else if has("bootstrap") {
        Family::Provided
    } else {
        return Err(PackError::Unclear(format!("no file for the handler {handler} found: give --runtime too")));
    };
    Ok(Inferred { family, handler: handler.to_owned() })
}

fn typescript(name: &str) -> PackError {
    PackError::Unclear(format!(
        "{name} is TypeScript: build it first, for example with\n  npx esbuild {name} --bundle --platform=node \
         --outfile=dist/{}.js && hearth deploy dist",
        stem(name)
    ))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<Entry> {
        names.iter().map(|name| Entry { name: name.to_string(), ..Entry::default() }).collect()
    }

    fn python(name: &str, text: &str) -> Entry {
        Entry { name: name.into(), text: Some(text.into()), executable: false }
    }

    fn said(entries: &[Entry]) -> String {
        infer(entries, None).unwrap_err().to_string()
    }

    #[test]
    fn the_usual_files_name_the_handler() {
        let expect = |entries: &[Entry], family, handler: &str| {
            assert_eq!(infer(entries, None).unwrap(), Inferred { family, handler: handler.into() });
        };
        expect(&files(&["lambda_function.py", "x.txt"]), Family::Python, "lambda_function.lambda_handler");
        expect(&[python("app.py", "import os\ndef handler(e, c):\n  pass\n")], Family::Python, "app.handler");
        expect(&[python("main.py", "lambda_handler = make()\n")], Family::Python, "main.lambda_handler");
        expect(&files(&["index.mjs"]), Family::NodeJs, "index.handler");
        expect(&files(&["main.cjs", "package.json"]), Family::NodeJs, "main.handler");
        let bootstrap = Entry { name: "bootstrap".into(), executable: true, text: None };
        expect(&[bootstrap], Family::Provided, "bootstrap");
    }

    #[test]
    fn what_only_looks_like_a_handler_is_none() {
        assert!(infer(&[python("app.py", "  def handler(e, c): pass\nhandlers = []\nhandler == 1\n")], None).is_err());
    }

    #[test]
    fn unclear_packages_are_refused_with_what_to_do() {
        assert!(said(&files(&["bootstrap"])).contains("chmod +x bootstrap"));
        assert!(said(&files(&["index.ts"])).contains("npx esbuild index.ts"));
        assert!(said(&files(&["lambda_function.py", "index.js"])).contains("--handler and --runtime"));
        assert!(said(&files(&["readme.md"])).contains("no handler found"));
    }

    #[test]
    fn a_given_handler_finds_its_language() {
        let family = |names: &[&str], handler| infer(&files(names), Some(handler)).map(|inferred| inferred.family);
        assert_eq!(family(&["work.py"], "work.run").unwrap(), Family::Python);
        assert_eq!(family(&["work.mjs"], "work.run").unwrap(), Family::NodeJs);
        assert_eq!(family(&["src/work.js"], "src/work.run").unwrap(), Family::NodeJs);
        assert!(family(&["work.ts"], "work.run").unwrap_err().to_string().contains("npx esbuild work.ts"));
        assert!(family(&[], "work.run").is_err());
    }
}

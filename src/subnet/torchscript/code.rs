//! Source code of a TorchScript archive: module classes and the forward pass.

use super::layers::{activate, layer_norm, rms_norm};
use super::modules::{Attribute, Module};
use super::{attention, windows};
use crate::models::graph::{Operation, Step, Value};
use crate::models::Graph;
use crate::{Error, Result};
use std::fmt::Write;

/// Returns the source: one class per module; the root's class has the forward pass.
pub(super) fn source(graph: &Graph, root: &Module) -> Result<String> {
    let mut source = String::new();
    for module in root.all() {
        declare(&mut source, module)?;
        if module.class == root.class {
            forward(&mut source, graph, root)?;
        }
    }
    Ok(source)
}

/// Declares the class of a module. Attributes are declared by strings, because names such as `0` are no
/// identifiers.
fn declare(source: &mut String, module: &Module) -> Result<()> {
    let named = |own: &Attribute| Ok((quoted(&own.name)?, own.is_buffer));
    let names = module.attributes.iter().map(named).collect::<Result<Vec<_>>>()?;
    let listed = |buffers: bool| -> String {
        let names = names.iter().filter(|(_, is_buffer)| *is_buffer == buffers);
        names.map(|(name, _)| format!("{name}, ")).collect()
    };
    let mut lines = vec![
        format!("class {}(Module):", class(module)),
        format!("  __parameters__ = [{}]", listed(false)),
        format!("  __buffers__ = [{}]", listed(true)),
        "  __annotations__ = []".into(),
        "  training : bool".into(),
    ];
    lines.extend(names.iter().map(|(name, _)| format!("  __annotations__[{name}] = Tensor")));
    for (name, child) in &module.children {
        lines.push(format!("  __annotations__[{}] = __torch__.{}", quoted(name)?, class(child)));
    }
    lines.iter().try_for_each(|line| writeln!(source, "{line}")).map_err(unwritten)
}

/// Returns the class name of a module.
pub(super) fn class(module: &Module) -> String {
    format!("Module{}", module.class)
}

/// Returns a name as a string literal.
fn quoted(name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(plain) {
        return Ok(format!("\"{name}\""));
    }
    Err(Error::invalid("part of a weight's name", "letters, digits and underscores", name))
}

/// Writes the forward pass.
fn forward(source: &mut String, graph: &Graph, root: &Module) -> Result<()> {
    let any = parameter_of(root, "self".into())
        .ok_or_else(|| Error::invalid("number of floating-point weights", "at least 1", 0))?;
    let mut lines = vec![
        format!("  def forward(self: __torch__.{}, images: Tensor) -> Tensor:", class(root)),
        format!("    if torch.ne(torch.slice(torch.size(images), 1), {:?}):", graph.input()),
        format!("      ops.prim.RaiseException({}, \"builtins.ValueError\")", refusal(graph)),
        "    else:".into(),
        "      pass".into(),
        // Converts the images to the type and device of the weights.
        format!("    v0 = torch.type_as(images, {any})"),
        "    batch = torch.size(v0, 0)".into(),
    ];
    for (value, step) in graph.steps() {
        lines.extend(step_lines(value, step)?);
    }
    lines.push(format!("    return {}", variable(graph.output())));
    lines.iter().try_for_each(|line| writeln!(source, "{line}")).map_err(unwritten)
}

/// Returns the expression of the message for images of another shape.
fn refusal(graph: &Graph) -> String {
    let [channels, height, width] = graph.input();
    let expected = format!("[batch, {channels}, {height}, {width}]");
    format!(
        "torch.format(\"shape of the images: got {{}}, expected {expected}\", torch.size(images))"
    )
}

/// Returns the expression of the first parameter below `path`.
fn parameter_of(module: &Module, path: String) -> Option<String> {
    if let Some(Attribute { name, .. }) = module.attributes.iter().find(|own| !own.is_buffer) {
        return Some(format!("getattr({path}, \"{name}\")"));
    }
    let below = |(name, child): &(String, Module)| {
        parameter_of(child, format!("getattr({path}, \"{name}\")"))
    };
    module.children.iter().find_map(below)
}

/// Returns the source lines of one step.
fn step_lines(value: Value, step: &Step) -> Result<Vec<String>> {
    let to = variable(value);
    let inputs: Vec<String> = step.inputs.iter().map(|&input| variable(input)).collect();
    let (x, all) = (inputs.first().map_or("", String::as_str), inputs.join(", "));
    let expression = match &step.operation {
        Operation::Patches { parameters, patch, bias } => {
            let parameters = match bias {
                true => weight_and_bias(parameters)?,
                false => format!("{}, None", path(&format!("{parameters}.weight"))?),
            };
            let grid = format!("torch.conv2d({x}, {parameters}, {patch:?})");
            format!("torch.transpose(torch.flatten({grid}, 2), 1, 2)")
        }
        Operation::Prepend { token } => {
            format!("torch.cat([torch.expand({}, [batch, -1, -1]), {x}], 1)", path(token)?)
        }
        Operation::AddParameter { parameter } => format!("torch.add({x}, {})", path(parameter)?),
        Operation::AddScaledParameter { parameter, scale } => {
            format!("torch.add({x}, torch.mul({}, {}))", path(parameter)?, path(scale)?)
        }
        Operation::ScaleParameter { parameter } => format!("torch.mul({x}, {})", path(parameter)?),
        Operation::LayerNorm { parameters, width, eps } => {
            layer_norm(x, &weight_and_bias(parameters)?, *width, *eps)
        }
        Operation::Linear { parameters } => {
            format!("torch.linear({x}, {})", weight_and_bias(parameters)?)
        }
        Operation::LinearOfAxes { parameters, bias } => {
            let weight = path(&format!("{parameters}.weight"))?;
            let bias = match bias {
                true => format!("torch.flatten({})", path(&format!("{parameters}.bias"))?),
                false => "None".into(),
            };
            format!("torch.linear({x}, torch.flatten({weight}, 0, -2), {bias})")
        }
        Operation::RmsNorm { parameters, width, eps } => {
            rms_norm(x, &path(&format!("{parameters}.weight"))?, *width, *eps)
        }
        Operation::Activate(activation) => activate(x, *activation),
        Operation::SwiGlu { width } => format!(
            "torch.mul(torch.silu(torch.slice({x}, -1, 0, {width})), torch.slice({x}, -1, {width}))"
        ),
        Operation::AddQueryValueBias { query, value } => {
            let (query, value) = (path(query)?, path(value)?);
            format!("torch.add({x}, torch.cat([{query}, torch.zeros_like({query}), {value}]))")
        }
        Operation::Token { index } => format!("torch.select({x}, 1, {index})"),
        Operation::MeanToken { first } => {
            format!("torch.mean(torch.slice({x}, 1, {first}), [1])")
        }
        Operation::Tokens { first } => format!("torch.slice({x}, 1, {first})"),
        Operation::LatentAttention { latent, query, heads, head_dim, scale } => {
            let query = format!("torch.linear({}, {})", path(latent)?, weight_and_bias(query)?);
            return Ok(attention::latent_lines(&to, x, &query, [*heads, *head_dim], *scale));
        }
        Operation::Concatenate => format!("torch.cat([{all}], -1)"),
        Operation::Add => format!("torch.add({all})"),
        Operation::Mean => format!("torch.div(torch.add({all}), 2)"),
        Operation::Attention { sizes, scale, norms, rotation } => {
            let (norms, rotation) = (norms.as_ref(), rotation.as_ref());
            return attention::lines(&to, &inputs, *sizes, *scale, norms, rotation);
        }
        Operation::Project { parameter } => format!("torch.linear({x}, {})", path(parameter)?),
        Operation::Merge { grid, width } => windows::merge(x, *grid, *width),
        Operation::WindowPartition(windows) => windows::partition(x, *windows),
        Operation::WindowReverse(windows) => windows::reverse(x, *windows),
        Operation::WindowAttention { windows, table, sizes, scale } => {
            let table = path(table)?;
            return Ok(windows::attention(&to, &inputs, *windows, &table, *sizes, *scale));
        }
    };
    Ok(vec![format!("    {to} = {expression}")])
}

fn variable(value: Value) -> String {
    format!("v{}", value.index())
}

pub(super) fn weight_and_bias(name: &str) -> Result<String> {
    Ok(format!("{}, {}", path(&format!("{name}.weight"))?, path(&format!("{name}.bias"))?))
}

/// `blocks.0.w` → `getattr(getattr(getattr(self, "blocks"), "0"), "w")`.
pub(super) fn path(name: &str) -> Result<String> {
    name.split('.').try_fold("self".to_owned(), |owner, part| {
        Ok(format!("getattr({owner}, {})", quoted(part)?))
    })
}

fn unwritten(error: std::fmt::Error) -> Error {
    Error::file("code/__torch__.py", error)
}

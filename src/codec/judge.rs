//! Whether a protobuf payload can be written as JSON: not every timestamp, duration, FieldMask,
//! Any and number of a Value can.

use super::decode::held;
use super::descriptor::{Form, MessageType, TypeId, Types, place};
use super::fault::Fault;
use super::mask;
use super::moment::Moment;
use super::tree::{Key, Tree, Value};

/// Checks that a message can be written as JSON. `levels`: how many levels it may have below it,
/// including those inside an Any.
pub(super) fn judge(types: &Types, id: TypeId, tree: &Tree, levels: usize) -> Result<(), Fault> {
    let message = types.message(id);
    if !message.is_special {
        return Ok(());
    }
    match message.form {
        Form::Timestamp => moment(tree).check_timestamp().map_err(Fault::new)?,
        Form::Duration => moment(tree).check_duration().map_err(Fault::new)?,
        Form::FieldMask => {
            if let Some(Value::List(paths)) = tree.value(place::ONLY) {
                for path in paths {
                    if let Value::String(path) = path {
                        mask::to_json(path, &mut String::new()).map_err(Fault::new)?;
                    }
                }
            }
        }
        Form::Any => {
            if let Some((id, content)) = held(types, tree, levels)? {
                judge(types, id, &content, levels.saturating_sub(1))?;
            }
        }
        Form::Value => {
            if let Some(Value::F64(number)) = tree.value(place::VALUE_NUMBER)
                && !number.is_finite()
            {
                return Err(Fault::new(format!("a Value's number cannot be {number}")));
            }
            return judge_fields(types, message, tree, levels);
        }
        Form::Object | Form::Struct | Form::ListValue | Form::Wrapper => {
            return judge_fields(types, message, tree, levels);
        }
    }
    Ok(())
}

fn judge_fields(
    types: &Types,
    message: &MessageType,
    tree: &Tree,
    levels: usize,
) -> Result<(), Fault> {
    for (index, value) in tree.iter() {
        let field = &message.fields[index];
        let Some(id) = field.kind.message() else {
            continue;
        };
        let levels = levels.saturating_sub(1);
        match value {
            Value::Message(inner) => {
                judge(types, id, inner, levels).map_err(|fault| fault.within(&field.name))?;
            }
            Value::List(values) => {
                for (at, value) in values.iter().enumerate() {
                    if let Value::Message(inner) = value {
                        let judged = judge(types, id, inner, levels);
                        judged.map_err(|fault| fault.within(format!("{}[{at}]", field.name)))?;
                    }
                }
            }
            Value::Map(entries) => {
                let Some(id) = (types.entry(field)).and_then(|(_, value)| value.kind.message())
                else {
                    continue;
                };
                let levels = levels.saturating_sub(1);
                for (key, value) in entries {
                    if let Value::Message(inner) = value {
                        let judged = judge(types, id, inner, levels);
                        judged.map_err(|fault| fault.within(key).within(&field.name))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn moment(tree: &Tree) -> Moment {
    Moment {
        seconds: match tree.value(place::SECONDS) {
            Some(Value::I64(seconds)) => *seconds,
            _ => 0,
        },
        nanos: match tree.value(place::NANOS) {
            Some(Value::I32(nanos)) => *nanos,
            _ => 0,
        },
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Bool(key) => key.fmt(f),
            Key::I64(key) => key.fmt(f),
            Key::U64(key) => key.fmt(f),
            Key::String(key) => key.fmt(f),
        }
    }
}

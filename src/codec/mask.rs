//! Paths of a FieldMask: `a.b_c` in protobuf, `a.bC` in JSON.

/// # Errors
/// Why it has no JSON form that would read back as the same path.
pub(super) fn to_json(path: &str, out: &mut String) -> Result<(), &'static str> {
    let mut is_behind = false;
    for letter in path.chars() {
        match (is_behind, letter) {
            (_, letter) if letter.is_uppercase() => {
                return Err("a FieldMask path must not contain capital letters");
            }
            (true, letter) if letter.is_lowercase() => {
                out.extend(letter.to_uppercase());
                is_behind = false;
            }
            (true, _) => return Err("a FieldMask path must have a lowercase letter after each _"),
            (false, '_') => is_behind = true,
            (false, letter) => out.push(letter),
        }
    }
    match is_behind {
        true => Err("a FieldMask path must have a lowercase letter after each _"),
        false => Ok(()),
    }
}

/// # Errors
/// If it has an underscore.
pub(super) fn from_json(path: &str) -> Result<String, &'static str> {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        match letter {
            '_' => return Err("in JSON a FieldMask path is written in camelCase, without _"),
            letter if letter.is_uppercase() => {
                snake.push('_');
                snake.extend(letter.to_lowercase());
            }
            letter => snake.push(letter),
        }
    }
    Ok(snake)
}

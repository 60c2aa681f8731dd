//! A table for all its outputs: the screen, plain text, and JSON.

use super::value::Value;
use std::cmp::Ordering;

/// A column of a table, the same for every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// In JSON, with the unit.
    pub key: &'static str,
    /// Over the column.
    pub heading: &'static str,
    /// The rank for dropping columns without room: the largest goes first, 0 always stays.
    pub rank: u8,
    /// Whether its texts may be cut, because they can have any length.
    pub elastic: bool,
}

impl Column {
    pub const fn new(key: &'static str, heading: &'static str, rank: u8) -> Column {
        let elastic = false;
        Column {
            key,
            heading,
            rank,
            elastic,
        }
    }

    pub const fn elastic(key: &'static str, heading: &'static str, rank: u8) -> Column {
        let elastic = true;
        Column {
            key,
            heading,
            rank,
            elastic,
        }
    }
}

/// The column to sort by, and the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    pub descending: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: &'static [Column],
    /// Each has a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// Why there are no rows, shown instead of them.
    pub note: Option<&'static str>,
    /// How many rows there are in all, if these are only some.
    pub total: Option<u64>,
}

impl Table {
    /// The sorted rows that contain the text in one of their fields, ignoring case.
    pub fn selected(&self, filter: &str, sort: Sort) -> Vec<&Vec<Value>> {
        let wanted = filter.to_lowercase();
        let holds = |value: &Value| match value {
            Value::Text(text) => text.to_lowercase().contains(&wanted),
            _ => false,
        };
        let mut rows: Vec<&Vec<Value>> = self
            .rows
            .iter()
            .filter(|row| wanted.is_empty() || row.iter().any(holds))
            .collect();
        // Stable: equal rows keep the server's order, so that they do not jump about.
        rows.sort_by(|one, other| compare(one, other, sort));
        rows
    }

    pub fn to_json(&self, rows: &[&Vec<Value>]) -> serde_json::Value {
        let object = |row: &&Vec<Value>| {
            let fields = self.columns.iter().zip(row.iter());
            let fields = fields.map(|(column, value)| (column.key.to_owned(), value.to_json()));
            serde_json::Value::Object(fields.collect())
        };
        rows.iter().map(object).collect()
    }
}

fn compare(one: &[Value], other: &[Value], sort: Sort) -> Ordering {
    let (Some(one), Some(other)) = (one.get(sort.column), other.get(sort.column)) else {
        return Ordering::Equal;
    };
    match sort.descending {
        true => other.order(one),
        false => one.order(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::elastic("name", "NAME", 0),
        Column::new("count", "COUNT", 0),
    ];

    fn table() -> Table {
        let row = |name: &str, count| vec![Value::text(name), Value::Count(count)];
        Table {
            columns: COLUMNS,
            rows: vec![row("b/Door", 1), row("a", 3), row("c", 3)],
            ..Table::default()
        }
    }

    fn names(rows: &[&Vec<Value>]) -> Vec<String> {
        rows.iter().map(|row| row[0].to_string()).collect()
    }

    #[test]
    fn rows_are_sorted_by_a_column_and_equal_ones_stay() {
        let sort = |column, descending| Sort { column, descending };
        let table = table();
        assert_eq!(
            names(&table.selected("", sort(0, false))),
            ["a", "b/Door", "c"]
        );
        assert_eq!(
            names(&table.selected("", sort(1, true))),
            ["a", "c", "b/Door"]
        );
        assert_eq!(
            names(&table.selected("", sort(9, true))),
            ["b/Door", "a", "c"]
        );
    }

    #[test]
    fn a_filter_looks_at_texts_whatever_the_case() {
        let sort = Sort {
            column: 0,
            descending: false,
        };
        let table = table();
        assert_eq!(names(&table.selected("dOOr", sort)), ["b/Door"]);
        assert!(table.selected("3", sort).is_empty());
        let json = table.to_json(&table.selected("door", sort));
        assert_eq!(json, serde_json::json!([{"name": "b/Door", "count": 1}]));
    }
}

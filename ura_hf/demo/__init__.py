"""The page: `page.build_demo` lays it out, `render` turns a prediction into pictures and words, `style` holds its looks."""

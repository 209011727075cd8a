"""What a network says of images, level by level, extracted once and kept."""

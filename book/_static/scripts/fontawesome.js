// Icons come from the theme's fonts: its script, which draws the same icons again, weighs more than all else on a page.

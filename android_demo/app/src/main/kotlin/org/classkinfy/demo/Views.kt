package org.classkinfy.demo

import android.app.Activity
import android.view.View

/** A view of a layout. The platform's own method is generic since API 26 only. */
@Suppress("UNCHECKED_CAST")
internal fun <V : View> View.find(id: Int): V {
    val found: View = findViewById(id)
    return found as V
}

internal fun <V : View> Activity.find(id: Int): V = window.decorView.find(id)
